"""A data set from its publisher's own address into the folder where it is looked for: whole, or not at all.

An archive is fetched beside that folder, unpacked into `<folder>.part` and given its name when it is whole;
then the archive goes. Data sets that are some files are gathered in `<folder>.part` likewise. An archive that
the user put there is taken instead, and stays.

    OWB_MIRROR   http(s) address of a mirror: it holds every file as <name of the data set>/<name of the file>
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from harness.errors import UserError
from scenarios.datasets.on_disk.contents import archive_problem
from scenarios.datasets.on_disk.download import Report, Unreachable, download, size_at
from scenarios.datasets.on_disk.place import OnDisk
from scenarios.datasets.on_disk.unpack import unpack
from scenarios.datasets.picture_folders import folders_in

T = TypeVar("T")
Tell = Callable[[str], None]
"""Told a sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadPlan:
    """What there is to fetch for a data set.

    dataset: the data set, its root the folder that it will have.
    folder: that folder.
    files: what has to come, by name, with its address.
    archive: the user's own archive that is taken instead, if there is one.
    """

    dataset: OnDisk
    folder: Path
    files: dict[str, str]
    archive: Path | None = None

    def size(self) -> int | None:
        """Return how many bytes will come, less those that are there already; None where a server does not
        say.

        Raises:
            UserError: an address that cannot be reached.
        """
        sizes = [self._reached(partial(size_at, address)) for address in self.files.values()]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def run(self, *, report: Report, tell: Tell) -> None:
        """Fetch and unpack.

        Raises:
            UserError: an address that cannot be reached, a wrong or damaged file, no room, no permission to
            write.
        """
        part = self.folder.with_name(f"{self.folder.name}.part")
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            if self._is_packed:
                archive = self.archive or self._archive(report, tell)
                tell(f"unpacking {archive}")
                self._unpacked(archive, part)
            else:
                part.mkdir(exist_ok=True)
                try:
                    for name in self.files:
                        self._file(part / name, self.dataset.md5s.get(name, ""), report, tell)
                    self._place(part)
                finally:
                    if part.is_dir() and not any(part.iterdir()):
                        part.rmdir()
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder.parent}: {error.strerror or error}; nothing half-written is left"
            ) from None

    @property
    def _is_packed(self) -> bool:
        return self.archive is not None or any(name in self.dataset.archives for name in self.files)

    def _archive(self, report: Report, tell: Tell) -> Path:
        (name,) = self.files
        target = self.folder.parent / name
        self._file(target, self.dataset.archives[name], report, tell)
        return target

    def _file(self, target: Path, md5: str, report: Report, tell: Tell) -> None:
        """Fetch one file if it is not there."""
        if target.is_file():
            return
        sha256 = self._reached(partial(download, self.files[target.name], target, md5=md5, report=report))
        if not md5:
            tell(f"{target.name}: its publisher states no digest; what came has SHA-256 {sha256}")

    def _unpacked(self, archive: Path, part: Path) -> None:
        """Unpack an archive and give the folder in it its name; one that was fetched goes then, or where it
        proves to be wrong.
        """
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            unpack(archive, part)
            places = [part, *(part / name for name in folders_in(part))]
            found = [place for place in places if any((place / mark).exists() for mark in self.dataset.marks)]
            if not found:
                raise UserError(
                    f"{archive} holds none of {', '.join(self.dataset.marks)}: it is another archive"
                )
            found[0].rename(self.folder)
        except OSError as error:
            raise UserError(
                f"cannot unpack {archive} into {part.parent}: {error.strerror or error}; the archive is "
                "whole and stays, the "
                "same command goes on from there"
            ) from None
        except UserError:
            self._cleared(archive)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._cleared(archive)

    def _cleared(self, archive: Path) -> None:
        if self.archive is None:
            archive.unlink()

    def _place(self, part: Path) -> None:
        """Give the gathered files their folder, or put them beside those that are there."""
        if not self.folder.exists():
            part.rename(self.folder)
            return
        for name in self.files:
            (part / name).rename(self.folder / name)

    def _reached(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except Unreachable as error:
            where = self.folder.parent if self._is_packed else self.folder
            names = ", ".join(self.files)
            raise UserError(
                f"{error}; without a network, bring {names} from elsewhere into {where} and say it again"
            ) from None


def download_plan(dataset: OnDisk, above: Path) -> DownloadPlan | None:
    """Return what there is to fetch for a data set that has addresses, below the folder `above`; None where
    it is there and right.

    Raises:
        UserError: what is there is not right, or OWB_MIRROR is no address.
    """
    folder = _folder(dataset, above)
    dataset = dataset.model_copy(update={"root": str(folder.absolute())})
    there = dataset.whereabouts().folder is not None
    if there and not (problems := dataset.problems()):
        return None
    files = {name: address_of(dataset, name) for name in dataset.wanted() if not (folder / name).is_file()}
    packed = any(name in dataset.archives for name in files)
    if there and (packed or not files):
        raise UserError(f"{folder} is there and not right: {problems[0]}; move it away, and fetch it again")
    if wrong := dataset.differences(
        [folder / name for name in dataset.wanted() if (folder / name).is_file()]
    ):
        raise UserError(f"{wrong[0]}; remove it, and fetch it again")
    if packed and folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"{folder} holds something else than {dataset.name}: move it away, and fetch it again"
        )
    brought = [above / name for name in files if packed and (above / name).is_file()]
    if not brought:
        return DownloadPlan(dataset=dataset, folder=folder, files=files)
    if problem := archive_problem(brought[0], dataset.archives[brought[0].name]):
        raise UserError(problem)
    return DownloadPlan(dataset=dataset, folder=folder, files={}, archive=brought[0])


def address_of(dataset: OnDisk, name: str) -> str:
    """Return where a file of a data set is: at its publisher's, or at the mirror where OWB_MIRROR names one.

    Raises:
        UserError: OWB_MIRROR is no http or https address.
    """
    mirror = os.environ.get("OWB_MIRROR", "")
    if not mirror:
        return dataset.addresses[name]
    if urlsplit(mirror).scheme not in ("http", "https"):
        raise UserError(f"OWB_MIRROR should be an address such as https://example.org/data/, got {mirror!r}")
    return f"{mirror.rstrip('/')}/{dataset.name}/{name}"


def _folder(dataset: OnDisk, above: Path) -> Path:
    """Return the folder below `above` that the data set lies in, or the one that it will have."""
    candidates = [above / name for name in dict.fromkeys((*dataset.folders, dataset.name))]
    return next(
        (folder for folder in candidates if any((folder / mark).exists() for mark in dataset.marks)),
        candidates[0],
    )
