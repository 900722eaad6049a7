"""Code for nodes that have other code than the driver, or none: this program, packages of plugins that are no
releases, and files of plugins by path with their neighbours, in one archive.

A node unpacks it into a folder of its own, from which every process there then imports, whatever else lies on its
search path (`sent_first`). Libraries are not sent.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from typing import Any

from harness.code import by_path
from harness.code.imports import OURS, module_named
from harness.errors import UserError
from harness.execution import sent_first, unpacking
from harness.execution.facts import Question, readdressed
from harness.plugins import is_by_path, registered
from harness.processes.messages import Job, Task
from harness.protocol import fingerprint
from harness.protocol.cells import LENT, code_lent

_MOST_MIB = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Code to be sent. places: where in the archive the files of plugins by path lie, by their path here."""

    digest: str
    archive: bytes
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Code that lies on a node. folder: where.  search: PYTHONPATH of what runs it.  moved: where files of plugins by
    path lie there, by their path here.
    """

    folder: str
    search: str
    moved: Mapping[str, str]

    @property
    def runtime_env(self) -> dict[str, Any]:
        """What Ray is told for tasks and actors that run it."""
        return {"env_vars": {"PYTHONPATH": self.search}}

    def asked(self, question: Question) -> Question:
        """Return the question as it is asked of the node."""
        return replace(question, moved=self.moved)

    def readdressed(self, task: Task) -> Task:
        """Return `task` with the files that it names where they lie on the node."""
        if isinstance(task, Job):
            return self._readdressed(task)
        return replace(task, jobs=tuple(self._readdressed(job) for job in task.jobs))

    def _readdressed(self, job: Job) -> Job:
        budget = job.settings.budget
        budget = replace(
            budget, backbone=self._text(budget.backbone), augmentations=self._text(budget.augmentations)
        )
        params = {
            name: self._text(value) if isinstance(value, str) else value for name, value in job.params.items()
        }
        settings = replace(job.settings, budget=budget)
        components = tuple(map(self._text, job.components))
        return replace(
            job, strategy=self._text(job.strategy), params=params, components=components, settings=settings
        )

    def _text(self, text: str) -> str:
        return readdressed(text, self.moved)


def parcel(asked: Question) -> Parcel:
    """Return the code that a node needs to answer as this machine does.

    Raises:
        UserError: it is too large to be sent.
    """
    files = {"sitecustomize.py": Path(sent_first.__file__).read_bytes()}
    for package in OURS:
        files |= _package(package)
    own = _own_packages(asked)
    places = {}
    for path, source in _by_path(asked):
        folder = by_path.folder_of(path)
        place = f"by-path/{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
        places[path] = f"{place}/{Path(path).name}"
        files[places[path]] = source.encode()
        for module in fingerprint.behind(source, folder):
            if module.folder and module.origin:
                beside = Path(module.origin).relative_to(folder)
                files.setdefault(f"{place}/{beside.as_posix()}", Path(module.origin).read_bytes())
            elif not module.folder and not module.releases:
                own.add(module.name.partition(".")[0])
    for package in sorted(own):
        files |= _package(package)
    for found in _distributions(own):
        files |= _dist_info(found)
    if sum(map(len, files.values())) > _MOST_MIB << 20:
        raise UserError(f"the code is larger than {_MOST_MIB} MiB: install the same on every node")
    return _archived(files, places)


def sent(parcel: Parcel, answer: tuple[str, str]) -> Sent:
    """Return what lies on a node that has unpacked a parcel and answered so."""
    folder, search = answer
    return Sent(
        folder=folder,
        search=os.pathsep.join(filter(None, (folder, search))),
        moved={path: f"{folder}/{place}" for path, place in parcel.places.items()},
    )


def by_value() -> Any:
    """Return `unpack_code`, to be sent to nodes that do not have it."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(unpacking)  # type: ignore[no-untyped-call]
    return unpacking.unpack_code


def _by_path(asked: Question) -> Iterator[tuple[str, str]]:
    """Yield the files of plugins by path, whole paths, and what they say."""
    for address, source in asked.files.items():
        yield address.rpartition(":")[0], source
    for name in code_lent(asked.lent):
        if is_by_path(name):
            path = name.rpartition(":")[0]
            yield path, Path(path).read_text(encoding="utf-8")


def _own_packages(asked: Question) -> set[str]:
    """Return the packages of the plugins of others that are registered."""
    modules = list(asked.modules.values())
    for name in code_lent(asked.lent):
        modules += [registered(kind)[name].module for kind in LENT if name in registered(kind)]
    return {name.partition(".")[0] for name in modules} - {*OURS}


def _package(name: str) -> dict[str, bytes]:
    """Return the files of a package, or the one of a module, by their place on the search path."""
    found = module_named(name)[-1:]
    if not found or (found[0].releases and name not in OURS):
        return {}
    if not found[0].places:
        return {Path(found[0].origin).name: Path(found[0].origin).read_bytes()}
    return {
        f"{name}/{path.relative_to(place).as_posix()}": path.read_bytes()
        for place in map(Path, found[0].places)
        for path in sorted(place.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _distributions(packages: set[str]) -> Iterator[Distribution]:
    """Yield this program's distribution, by whose entry points plugins are found, and those of further packages."""
    providers = packages_distributions()
    names = {"openworld-bench", *(name for package in packages for name in providers.get(package, ()))}
    for name in sorted(names):
        try:
            yield distribution(name)
        except PackageNotFoundError:
            continue


def _dist_info(found: Distribution) -> dict[str, bytes]:
    folder = f"{found.name.replace('-', '_')}-{found.version}.dist-info"
    kept = ("METADATA", "entry_points.txt", "direct_url.json")
    said = {name: found.read_text(name) for name in kept}
    return {f"{folder}/{name}": text.encode() for name, text in said.items() if text}


def _archived(files: Mapping[str, bytes], places: Mapping[str, str]) -> Parcel:
    digest, content = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, said in sorted(files.items()):
            digest.update(f"{name}|{hashlib.sha256(said).hexdigest()}|".encode())
            archive.writestr(zipfile.ZipInfo(name), said, compress_type=zipfile.ZIP_DEFLATED)
    return Parcel(digest=digest.hexdigest(), archive=content.getvalue(), places=places)


__all__ = ["Parcel", "Sent", "by_value", "parcel", "sent"]
