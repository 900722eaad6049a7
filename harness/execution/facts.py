"""What a machine has that decides what a cell answers there, and whether it is the same as on another one.

The key of a cell names the code and the library versions that it was planned with. A machine that has others
would put other numbers under the same key, without a word.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.cell.run import settings_of
from harness.code import by_path
from harness.code.imports import OURS, module_named
from harness.contracts import Scenario
from harness.errors import UserError
from harness.execution.environment import of_this_machine
from harness.execution.machine import Machine, check_device
from harness.plugins import Plugin
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, code_lent, lent_texts
from harness.weights import declared_weights

NEEDED_MIB = 200
"""How much room a node has to have where its cells work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a node is asked.

    device, precision: to be had there.  path: where the driver finds modules.
    modules: of strategies by their names, those of other packages.  files: paths of strategies, with the
    text that is sent.  lent: what selects networks, augmentations and components.  networks: these, which may
    have weights.  mark: a file in the folder of the store, of this run alone: who finds it sees that folder.
    moved: files of plugins by path that were sent: where they lie there, by where they lie here.
    """

    device: str = "cpu"
    precision: Any = "float32"
    path: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    lent: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    mark: Path | None = None
    moved: Mapping[str, str] = field(default_factory=dict)


def question(cells: Iterable[Cell], machine: Machine, folder: Path | None = None) -> Question:
    """Return what to ask of a node that is to run these cells, whose files lie in `folder`."""
    cells = list(cells)
    plugins = {cell.contender.plugin.name: cell.contender.plugin for cell in cells}
    scenarios = {cell.protocol.hash: cell.protocol.scenario for cell in cells}
    asked = question_of(plugins.values(), scenarios.values(), machine)
    return replace(
        asked,
        lent=tuple(dict.fromkeys(text for cell in cells for text in lent_texts(cell))),
        mark=folder and folder.absolute() / f"run-{secrets.token_hex(8)}",
    )


def question_of(plugins: Collection[Plugin], scenarios: Iterable[Scenario], machine: Machine) -> Question:
    """Return what to ask of a node that is to run these strategies on these scenarios."""
    budgets = [settings_of(scenario, 0).budget for scenario in scenarios]
    return Question(
        device=machine.device,
        precision=machine.precision,
        path=tuple(sys.path),
        modules={
            plugin.name: plugin.cls.__module__
            for plugin in plugins
            if plugin.source is None and plugin.cls.__module__.partition(".")[0] not in OURS
        },
        files={plugin.address: plugin.source for plugin in plugins if plugin.source is not None},
        lent=tuple(dict.fromkeys(each for one in budgets for each in (one.backbone, one.augmentations))),
        networks=tuple(dict.fromkeys(one.backbone for one in budgets)),
    )


def facts(asked: Question) -> dict[str, Any]:
    """Return what this machine has, in plain values: a node with another version of this program answers too.

    environment: as in a record.  version, code: of this program.  plugins: digests by name, empty of what
    cannot be read.  weights: digests of files of weights by the networks that name them, empty of those that
    are not there; relative paths count from this machine's OWB_DATA.  device: why it cannot be used, empty
    where it can.  sees_store: whether the folder of the store is the driver's, and can be written to.
    free_mib: of the disk with this machine's folder for temporary files.
    """
    sys.path += [place for place in asked.path if place not in sys.path]
    try:
        check_device(asked.device, asked.precision)
        device = ""
    except UserError as error:
        device = str(error)
    plugins = {name: fingerprint.of_code(module) for name, module in asked.modules.items()}
    for address, source in asked.files.items():
        folder = by_path.folder_of(readdressed(address, asked.moved).rpartition(":")[0])
        plugins[address] = fingerprint.of_code("", source, folder)
    back = {new: old for old, new in asked.moved.items()}
    lent = code_lent(readdressed(text, asked.moved) for text in asked.lent)
    plugins |= {readdressed(f"{name}:", back).removesuffix(":"): code for name, code in lent.items()}
    return {
        "environment": of_this_machine(),
        "version": _version(),
        "code": code_here(),
        "plugins": plugins,
        "weights": {network: _weights_of(network) for network in asked.networks},
        "device": device,
        "sees_store": asked.mark is not None
        and asked.mark.is_file()
        and os.access(asked.mark.parent, os.W_OK),
        "free_mib": shutil.disk_usage(tempfile.gettempdir()).free / 2**20,
    }


def readdressed(text: str, moved: Mapping[str, str]) -> str:
    """Return a text that names plugins by path (`my.py:Net`), with files that were moved by their new paths."""
    for old, new in moved.items():
        text = text.replace(f"{old}:", f"{new}:")
    return text


def _weights_of(backbone: str) -> str:
    try:
        return declared_weights(backbone).get("sha256", "none")
    except UserError:  # they are not there, or are others than the text says
        return ""


@cache
def code_here() -> str:
    """Return the SHA-256 of this program's source: names and bytes of the modules that run cells."""
    digest = hashlib.sha256()
    for package in OURS:
        for place in module_named(package)[-1].places if module_named(package) else ():
            for path in sorted(Path(place).rglob("*.py")):
                digest.update(f"{package}/{path.relative_to(place).as_posix()}|".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _version() -> str:
    try:
        return version("openworld-bench")
    except PackageNotFoundError:
        return ""


def lacks_code(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say what code a machine lacks to work for this one; empty where it has it all. Arguments as of `difference`."""
    if there["code"] != here["code"]:
        versions = (
            f"{there['version'] or 'no release'} there, {here['version'] or 'no release'} here"
            if there["version"] != here["version"]
            else f"both call themselves {here['version']}"
        )
        return f"it has other code of this program ({versions})"
    for name, digest in here["plugins"].items():
        if there["plugins"].get(name) != digest:
            return f"what {name} says or imports is not the same there"
    return ""


def other_libraries(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say which libraries a machine has in other versions; empty where there is none. Arguments as of
    `difference`.
    """
    known, found = here["environment"]["libraries"], there["environment"]["libraries"]
    return ", ".join(
        f"{name} {found.get(name, 'missing')} instead of {known.get(name, 'none')}"
        for name in sorted({*known, *found})
        if known.get(name) != found.get(name)
    )


def difference(here: Mapping[str, Any], there: Mapping[str, Any], *, mixed: bool = False) -> str:
    """Say what keeps a machine from working for this one, whatever code it is sent, and what to do about it;
    empty where nothing does.

    Args:
        here: `facts` of the driver.
        there: `facts` of the machine, to the same question.
        mixed: whether it may have other libraries.
    """
    ours, theirs = here["environment"]["python"], there["environment"]["python"]
    if _minor(theirs) != _minor(ours):
        return f"it has Python {theirs}, not {ours}: install that one there"
    others = other_libraries(here, there)
    if others and not mixed:
        return f"it has other libraries ({others}): install the same versions there, or say --mixed"
    for network, digest in here["weights"].items():
        if there["weights"].get(network) != digest:
            return (
                f"it lacks the weights of {network} (SHA-256 {digest[:16]}), or has others: put the same file "
                "there, in the same place, or, with a relative path, under its own OWB_DATA"
            )
    if there["device"]:
        return str(there["device"])
    if not there["sees_store"] and there.get("free_mib", NEEDED_MIB) < NEEDED_MIB:
        return (
            f"only {there['free_mib']:.0f} MiB are free in its folder for temporary files, in which cells work, and "
            f"{NEEDED_MIB} are needed: make room, or start it with another TMPDIR"
        )
    return ""


def _minor(python: str) -> list[str]:
    return python.split(".")[:2]


__all__ = [
    "Question",
    "difference",
    "facts",
    "lacks_code",
    "other_libraries",
    "question",
    "question_of",
    "readdressed",
]
