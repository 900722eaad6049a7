"""Where a data set lies on the user's disk, and what the base class of all of them promises.

`root` says the folder, relative to the environment variable OWB_DATA where that is set; without it one of the
usual names below OWB_DATA is taken. A folder counts if it holds one of the `marks` of the layout. An archive
that is there but not unpacked is said so, after it has been held against its published MD5, or read to its
end where none is known.

The digest of a card is that of what is on disk. Where the publisher's MD5 of every file is known, it is one
SHA-256 over names and MD5s, so that the card of the class states it for data that nobody has fetched yet;
otherwise it is one over labels and contents.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple, cast

from harness.contracts import Card, Data, Dataset, IntArray, param
from harness.errors import UserError
from harness.places import below_data, data_folder
from scenarios.datasets.file_digests import digests_of
from scenarios.datasets.on_disk.contents import archive_problem, combined
from scenarios.datasets.sound import flaw

_log = logging.getLogger(__name__)


class Whereabouts(NamedTuple):
    """Where a data set lies: its folder, or None and where it was looked for."""

    folder: Path | None
    looked_for: tuple[Path, ...]


class Labelled(NamedTuple):
    """The labels of all items, int64 (N,), and the names of the classes."""

    labels: IntArray
    class_names: tuple[str, ...]


class _OwnCard:
    """The card: of the class as published, of an object with the digest of what is on disk."""

    def __get__(self, dataset: OnDisk | None, cls: type[OnDisk]) -> Card:
        return cls.published if dataset is None else replace(cls.published, digest=dataset.digest())


class OnDisk(Dataset):
    """A data set in a folder of the user's.

    A class sets `name`, `published`, `folders` (usual names, the publisher's first), `marks` (entries of the
    folder, any of which tells the layout), `archives` (file name -> published MD5, empty where none is
    known), `md5s` (the same for files), `obtain`, and `addresses` (archive or file -> its publisher's
    address) where a program can fetch it without a form, a licence to sign or a password.
    """

    name: ClassVar[str]
    published: ClassVar[Card]
    folders: ClassVar[tuple[str, ...]]
    marks: ClassVar[tuple[str, ...]]
    archives: ClassVar[Mapping[str, str]] = MappingProxyType({})
    md5s: ClassVar[Mapping[str, str]] = MappingProxyType({})
    addresses: ClassVar[Mapping[str, str]] = MappingProxyType({})
    obtain: ClassVar[str]
    card: ClassVar[Card] = cast(Card, _OwnCard())

    root: str = param(
        "", "its folder, below OWB_DATA where that is set; empty for one of the usual names there"
    )
    verify: bool = param(
        False, "refuse files whose MD5 differs from the publisher's, where that is known, instead of warning"
    )

    @abstractmethod
    def expected(self) -> list[Path]:
        """Return the files that say what is where, in a fixed order, whether they are there or not.

        Raises:
            UserError: there is no folder, or one of another layout.
        """

    @abstractmethod
    def examine(self, path: Path) -> None:
        """Read one of the expected files; raise `UserError` where it is damaged or something else."""

    @abstractmethod
    def digest(self) -> str:
        """Return one SHA-256 over what is on disk; raise `UserError` for a missing or unreadable file."""

    @abstractmethod
    def read(self) -> Data:
        """Return all items; the files are there and have been held against the publisher's MD5."""

    def load(self) -> Data:
        """Return all items in the publisher's order.

        Raises:
            UserError: missing, truncated or damaged files; with `verify` also those that differ from the
            publisher's.
        """
        for problem in self.differences(self.files()):
            if self.verify:
                raise UserError(problem)
            _log.warning("%s", problem)
        return self.read()

    def files(self) -> list[Path]:
        """Return the expected files; raise `UserError` where some are missing, all of them named."""
        return present(self.expected(), self.name)

    def wanted(self) -> tuple[str, ...]:
        """Return which of `addresses` these parameters need."""
        return tuple(self.addresses)

    def whereabouts(self) -> Whereabouts:
        """Return where the data set lies, without reading anything."""
        above = data_folder()
        if self.root:
            base = below_data(self.root)
            candidates = [base, *(base / name for name in self.folders)]
        else:
            candidates = [above / name for name in dict.fromkeys((*self.folders, self.name))] if above else []
        marked = [folder for folder in candidates if any((folder / mark).exists() for mark in self.marks)]
        return Whereabouts(marked[0] if marked else None, tuple(candidates))

    def folder(self) -> Path:
        """Return its folder.

        Raises:
            UserError: there is none: where it was looked for, what it should hold, and how to get it; or an
            archive waits to be unpacked.
        """
        found, looked_for = self.whereabouts()
        if found is not None:
            return found
        lead = f"{self.name!r} has to be read from your disk"
        if not looked_for:
            raise UserError(
                f"{lead}: set OWB_DATA to the folder above {self.folders[0]}, or say root; {self.obtain}"
            )
        for archive in self._archives_beside(looked_for):
            if problem := archive_problem(archive, self.archives[archive.name]):
                raise UserError(problem)
            raise UserError(f"{lead}: unpack {archive} beside it first")
        where = ", ".join(str(folder) for folder in looked_for)
        there = [folder for folder in looked_for if folder.is_dir()]
        what = f"{there[0]} holds none of {', '.join(self.marks)}" if there else "there is no such folder"
        raise UserError(f"{lead}: {what} (looked for {where}); {self.obtain}")

    def differences(self, paths: Sequence[Path], *, anew: bool = False) -> list[str]:
        """Return a sentence for each of `paths` whose MD5 is not the publisher's, where that is known; `anew`
        as in `digests_of`.
        """
        known = [path for path in paths if path.name in self.md5s]
        if not known:
            return []
        return [
            (
                f"{path} has MD5 {found}, {self.md5s[path.name]} is the publisher's: truncated, or another "
                f"version of {self.name}"
            )
            for path, found in zip(known, digests_of(known, "md5", anew=anew), strict=True)
            if found != self.md5s[path.name]
        ]

    def problems(self) -> list[str]:
        """Return all that is wrong with what is on disk, a sentence each: missing, damaged or other files
        than the publisher's.

        All files are read, also those whose MD5 is known from before.
        """
        try:
            paths = self.expected()
        except UserError as error:
            return [str(error)]
        there = [path for path in paths if path.is_file()]
        checks: list[Callable[[], object]] = [
            partial(present, paths, self.name),
            *(partial(self.examine, path) for path in there),
        ]
        wrong = [*complaints(checks), *self.differences(there, anew=True)]
        return wrong or self.inspected()

    def inspected(self) -> list[str]:
        """Return what is wrong with the items, where the files that say what is where are sound."""
        try:
            data = self.read()
        except UserError as error:
            return [str(error)]
        return [*self.miscounted(len(data.labels), len(data.class_names)), *self.unsound(flaw(data))]

    def labelled(self) -> Labelled:
        """Return the labels of all items; raise `UserError` as `load`."""
        data = self.load()
        return Labelled(data.labels, data.class_names)

    def miscounted(self, items: int, classes: int) -> list[str]:
        """Return the sentence that says so where other numbers of items and classes were published under
        these parameters.
        """
        stated = self.stated()
        if stated in (None, (items, classes)):
            return []
        return [
            f"{self.name} has {items} items of {classes} classes, {stated[0]} of {stated[1]} were published"
        ]

    def unsound(self, found: str) -> list[str]:
        """Return the sentence in which `scenarios.datasets.sound` refuses these items, where it `found`
        something.
        """
        return [f"{self.name}: {found}"] if found else []

    def stated(self) -> tuple[int, int] | None:
        """Return how many items and classes were published under these parameters, None where that is not
        known.
        """
        return self.published.items, self.published.classes

    def _archives_beside(self, folders: Sequence[Path]) -> list[Path]:
        places = dict.fromkeys([*(folder.parent for folder in folders), *folders])
        return [place / name for name in self.archives for place in places if (place / name).is_file()]


def published_digest(md5s: Mapping[str, str]) -> str:
    """Return the digest that the files of these names and MD5s have together."""
    return combined(f"{name} {md5}" for name, md5 in md5s.items())


def present(paths: Sequence[Path], name: str) -> list[Path]:
    """Return `paths` if all of them are files.

    Raises:
        UserError: those that are not there, all named.
    """
    if missing := [path for path in paths if not path.is_file()]:
        named = ", ".join(path.name for path in missing)
        raise UserError(
            f"{missing[0].parent} lacks {named}, which {'belong' if len(missing) > 1 else 'belongs'} to {name}"
        )
    return list(paths)


def complaints(checks: Iterable[Callable[[], object]]) -> list[str]:
    """Return what the checks that raise `UserError` say."""
    said = []
    for check in checks:
        try:
            check()
        except UserError as error:
            said.append(str(error))
    return said
