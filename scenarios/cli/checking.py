"""What `owb data check` finds: how many items of which class in which part, which are there twice or look alike
on both sides of a split, and all that is wrong.

Pictures of a published set are packed only where a contact sheet is asked for, and looked at then; one's own are
packed by the check, which the next run is spared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.cli import console
from harness.contracts import Data
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.contracts import Card, Dataset, IntArray

_PARTS = ("train", "val", "test")
_SHOWN = 5
_MOST_LINES = 100
_MOST_PAIRS = 10**10
"""Pairs of images above which near duplicates are not looked for: a minute or two on one core."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found. Where there are `problems` the rest may be empty.

    summary: a line.  card: title, source, licence and so on.  counts: items by class and part.  groups: how many.
    given_wrong: how many of the given labels are not the true ones.  alike: pairs of names of images, of the test
    with others, or where nothing is set apart of all.  remarks: what was not done, and why.
    """

    problems: Sequence[str] = ()
    summary: str = ""
    card: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    groups: int | None = None
    given_wrong: int | None = None
    alike: Sequence[tuple[str, str]] | None = None
    remarks: Sequence[str] = ()
    sheet: str = ""


def checked(dataset: Dataset, name: str, sheet: Path | None = None) -> Checked:
    """Check a data set, which the user calls `name`, and write a contact sheet where one is wanted.

    Raises:
        UserError: it does not load, or no sheet can be made of it.
    """
    from scenarios.datasets.on_disk.pictures import Pictures
    from scenarios.datasets.on_disk.place import OnDisk
    from scenarios.datasets.own.base import Own
    from scenarios.datasets.sound import loaded

    if isinstance(dataset, (OnDisk, Own)) and (problems := dataset.problems()):
        return Checked(problems=problems)
    where = f", in {dataset.folder()}" if isinstance(dataset, OnDisk) else ""
    if isinstance(dataset, Pictures) and not sheet:
        labels, names = dataset.labelled()
        card = dataset.card
        return Checked(
            summary=f"{_counted(labels, names)}, digest {card.digest[:16]}{where}",
            card=_facts(card),
            counts=_counts(labels, names, {"all": np.ones(len(labels), dtype=bool)}),
            remarks=["whether pictures look alike is said with --sheet, which packs them"],
        )
    data = loaded(dataset, name)
    card = dataset.card
    if (len(data.labels), len(data.class_names)) != (card.items, card.classes) and "[" not in name:
        raise UserError(
            f"{name} loads {len(data.labels)} items of {len(data.class_names)} classes, its card says otherwise"
        )
    called = dataset.content().name if isinstance(dataset, Own) else "row {}".format
    pairs, remarks = _alike(data, called)
    if sheet and (left := _write(data, sheet)):
        remarks.append(f"{sheet} shows {left}")
    return Checked(
        summary=f"{_counted(data.labels, data.class_names)}, {'x'.join(map(str, data.inputs.shape[1:]))}, "
        f"digest {card.digest[:16]}{where}",
        card=_facts(card),
        counts=_counts(data.labels, data.class_names, _parts(data)),
        groups=None if data.groups is None else len(np.unique(data.groups)),
        given_wrong=None if data.given is None else int((data.given != data.labels).sum()),
        alike=pairs,
        remarks=remarks,
        sheet=str(sheet or ""),
    )


def checked_anomaly(name: str) -> Checked:
    """Decode the images of anomaly detection with their masks, and count them."""
    from harness.selection import configured

    scenario = configured("scenario", name)
    deal = scenario.deal(0)
    learned, asked = (
        np.unique(np.concatenate([getattr(stage, part) for stage in deal.stages]))
        for part in ("rows", "query")
    )
    defective = deal.facts["anomalous"][asked] > 0
    masks = int(deal.facts["has_mask"][asked[defective]].sum())
    (digest,) = scenario.data_digests().values()
    return Checked(
        summary=f"{len(np.unique(deal.labels))} categories, {len(learned)} images to learn, {(~defective).sum()} good "
        f"and {defective.sum()} defective ones to test, {masks} masks, digest {digest[:16]}"
    )


def show(name: str, found: Checked) -> None:
    """Print what was found."""
    for problem in found.problems:
        console.complain(problem)
    if found.problems:
        number = len(found.problems)
        console.say(f"{name}: {number} {'problem' if number == 1 else 'problems'}")
        return
    console.say(f"{name}: {found.summary}")
    there = [part for part in ("all", *_PARTS) if any(part in own for own in found.counts.values())]
    if there:
        rows = [[label, *(str(own.get(part, 0)) for part in there)] for label, own in found.counts.items()]
        console.grid(["class", *there], rows[:_MOST_LINES])
        if len(rows) > _MOST_LINES:
            console.say(f"and {len(rows) - _MOST_LINES} more classes, which --json lists")
    if found.groups is not None:
        console.say(f"{found.groups} groups, each of which stays on one side of a split")
    if found.given_wrong is not None:
        console.say(f"{found.given_wrong} given labels are not the true ones")
    if found.alike:
        where = "of the test with others" if _split(found) else "which a split may part"
        console.say(f"images that look alike, pairs {where}: {len(found.alike)}")
        for one, other in found.alike[:_SHOWN]:
            console.say(f"  {other} is like {one}")
    for remark in found.remarks:
        console.say(remark)
    if found.sheet:
        console.note(f"contact sheet: {found.sheet}")


def _split(found: Checked) -> bool:
    return any("test" in own for own in found.counts.values())


def _alike(data: Data, called: Callable[[int], str]) -> tuple[list[tuple[str, str]] | None, list[str]]:
    """Return the names of images that look alike, None where it was not looked for, and why not."""
    from scenarios.datasets.alike import pairs_alike, prints_of

    if len(data.inputs.shape) != 4:
        return None, []
    rows = np.arange(len(data.labels))
    test = data.published_test
    ones, others = (rows, None) if test is None else (rows[~test], rows[test])
    if len(ones) * len(rows if others is None else others) > _MOST_PAIRS:
        return None, [f"whether two of {len(rows)} images look alike is not looked for: too many pairs"]
    found = pairs_alike(prints_of(data.inputs), ones, others)
    return [(called(pair.one), called(pair.other)) for pair in found], []


def _write(data: Data, sheet: Path) -> str:
    from scenarios.datasets.contact_sheet import write_sheet

    return write_sheet(data, sheet)


def _parts(data: Data) -> dict[str, Any]:
    none = np.zeros(len(data.labels), dtype=bool)
    test = none if data.published_test is None else data.published_test
    val = none if data.published_validation is None else data.published_validation & ~test
    return {"train": ~test & ~val, "val": val, "test": test}


def _counts(labels: IntArray, names: Sequence[str], parts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return items by class and part, without parts that are empty."""
    counts = {
        part: np.bincount(labels[inside], minlength=len(names)).tolist()
        for part, inside in parts.items()
        if inside.any()
    }
    return {name: {part: own[label] for part, own in counts.items()} for label, name in enumerate(names)}


def _counted(labels: IntArray, class_names: Sequence[str]) -> str:
    counts = np.bincount(labels, minlength=len(class_names))
    return f"{len(labels)} items of {len(class_names)} classes, {counts.min()} to {counts.max()} per class"


def _facts(card: Card) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(card)


__all__ = ["Checked", "checked", "checked_anomaly", "show"]
