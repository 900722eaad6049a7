"""What the kinds of one's own data share: a card made from what is there, and a check that says all that is wrong.

A kind says what it finds (`content`): what every item is, without decoding any, and how to get the inputs. The
digest goes over contents, classes, parts and groups of all items in their order, or over whole files, so that
results follow the data and not the place where they lie.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

import numpy as np

from harness.contracts import AnyArray, Card, Data, Dataset, Inputs, param
from harness.errors import UserError
from harness.places import below_data
from scenarios.datasets.own.marks import Marks
from scenarios.datasets.sound import flaw

_SHOWN = 20


class Content(NamedTuple):
    """What one's own data hold.

    marks: what every item is.  shape: of one item.  digest: SHA-256 of it all.  inputs: fetches or decodes
    them.  name: what an item is called in messages, by its row.  hashes: of the content of every item.
    broken: says what is wrong with single items, trying all.
    """

    marks: Marks
    shape: tuple[int, ...]
    digest: str
    inputs: Callable[[], Inputs]
    name: Callable[[int], str]
    hashes: Callable[[], Sequence[str]] = list
    broken: Callable[[], list[str]] = list


class Labelling(NamedTuple):
    """Which labels a data set has.

    true: whether `Data.labels` are true ones.  given: whether there is `Data.given` beside them.
    """

    true: bool
    given: bool


def labelling_of(dataset: Dataset) -> Labelling:
    """Return which labels a data set has; one of somebody else's says so by `labels_are_true` and `has_given`."""
    if isinstance(dataset, Own):
        return dataset.labelling()
    return Labelling(
        true=getattr(dataset, "labels_are_true", True), given=getattr(dataset, "has_given", False)
    )


class _OwnCard:
    """The card: of the class what is read, of an object what is there."""

    def __get__(self, dataset: Own | None, cls: type[Own]) -> Card:
        if dataset is None:
            return cls.kind
        found = dataset.content()
        return replace(
            cls.kind,
            items=len(found.marks.labels),
            classes=len(found.marks.class_names),
            shape=found.shape,
            digest=found.digest,
        )


class Own(Dataset):
    """Data of one's own. A class sets `kind`, the card with what is the same for all data of this kind, and
    `usage`, a selection.
    """

    kind: ClassVar[Card]
    usage: ClassVar[str]
    card: ClassVar[Card] = cast(Card, _OwnCard())

    labels_are_true: bool = param(
        True, "whether the labels are right; false where a share of them is wrong and which is not known"
    )

    def labelling(self) -> Labelling:
        """Return which labels there are, without reading the data."""
        return Labelling(true=self.labels_are_true, given=False)

    @abstractmethod
    def content(self) -> Content:
        """Return what is there.

        Raises:
            UserError: nothing, or something that cannot be understood: the file, the row, and what to do.
        """

    def load(self) -> Data:
        """Return all items in a fixed order.

        Raises:
            UserError: as `content`; or an item that cannot be read, named.
        """
        found = self.content()
        return Data(
            inputs=found.inputs(),
            labels=found.marks.labels,
            class_names=found.marks.class_names,
            groups=found.marks.groups,
            published_test=found.marks.published_test,
            published_validation=found.marks.published_validation,
            given=found.marks.given,
        )

    def problems(self) -> list[str]:
        """Return all that is wrong, a sentence each: every item that cannot be read, and those that are in two
        parts of the split.
        """
        try:
            found = self.content()
        except UserError as error:
            return [str(error)]
        twice = _short(_in_two_parts(found))
        try:
            flawed = flaw(self.load())
        except UserError as error:  # of the first item; what decodes all of them is packed already
            return [*(_short(found.broken()) or [str(error)]), *twice]
        return [*([flawed] if flawed else []), *twice]


def own_card(title: str, *, notes: str, package: str = "your own") -> Card:
    """Return the card of one kind of data of one's own, without what only the data say."""
    return Card(
        title=title,
        items=0,
        classes=0,
        shape=(),
        licence="as you have it",
        source="your disk",
        package=package,
        digest="",
        notes=notes,
    )


def place_of(path_text: str, parameter: str, usage: str) -> Path:
    """Return where a path that a person wrote leads, below OWB_DATA where that is set.

    Raises:
        UserError: nothing was said, or nothing is there.
    """
    if not path_text:
        raise UserError(f"say where your data are: {usage}")
    path = below_data(path_text)
    if not path.exists():
        raise UserError(f"there is no {path}, which {parameter}={path_text} leads to: {usage}")
    return path


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the file that is called `name` in `folder`.

    Raises:
        UserError: there is none, or it lies outside.
    """
    path = folder / name
    real = path.resolve()
    if not real.is_relative_to(folder.resolve()):
        raise UserError(
            f"{where} names {name}, which lies outside of {folder}: say root, the folder above all of them"
        )
    if not real.is_file():
        raise UserError(f"{where} names {name}, and there is no such file in {folder}")
    return path


def digest_in_order(marks: Marks, hashes: Iterable[str]) -> str:
    """Return one SHA-256 over class, part, group, content and given label of every item, in their order."""
    digest = hashlib.sha256("\n".join(marks.class_names).encode())
    for row, found in enumerate(hashes):
        group = "" if marks.groups is None else marks.groups[row]
        given = "" if marks.given is None else f" {marks.given[row]}"
        digest.update(f"\n{marks.labels[row]} {marks.part(row)} {group} {found}{given}".encode())
    return digest.hexdigest()


def hashes_of(values: AnyArray) -> list[str]:
    """Return the SHA-256 of every item."""
    return [hashlib.sha256(np.ascontiguousarray(item).tobytes()).hexdigest() for item in values]


def _in_two_parts(content: Content) -> list[str]:
    """Return a sentence for every item that is there again in another part."""
    first: dict[str, int] = {}
    problems = []
    for row, found in enumerate(content.hashes()):
        other = first.setdefault(found, row)
        parts = content.marks.part(other), content.marks.part(row)
        if parts[0] != parts[1]:
            problems.append(
                f"{content.name(row)} in {parts[1]} is the same as {content.name(other)} in {parts[0]}"
            )
    return problems


def _short(problems: list[str]) -> list[str]:
    more = [f"and {len(problems) - _SHOWN} more like this"] if len(problems) > _SHOWN else []
    return [*problems[:_SHOWN], *more]


__all__ = [
    "Content",
    "Labelling",
    "Own",
    "digest_in_order",
    "hashes_of",
    "inside",
    "labelling_of",
    "own_card",
    "place_of",
]
