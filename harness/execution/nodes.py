"""The nodes of a Ray cluster that was joined: each is asked what it has before it works, and those that would
answer otherwise are left out.

The key of a cell names the code and the library versions that it was planned with. A node that has others
would put other numbers under the same key, without a word. So every node says what it has (`facts`), and the
driver compares: with other code, of this program or of a plugin, with other libraries or another Python, or
without the device, it gets no cell, and the run goes on with the others. Processors may differ; the record of
a cell names the one that it ran on.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.code import by_path
from harness.code.imports import OURS, module_named
from harness.contracts import TrainingBudget
from harness.errors import UserError, in_one_line
from harness.execution.cluster import nodes_there, start, stop
from harness.execution.environment import of_this_machine
from harness.execution.machine import Machine, check_device
from harness.protocol import fingerprint
from harness.protocol.cells import Cell, code_of_files

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a node is asked.

    device, precision: to be had there.  path: where the driver finds modules.
    modules: of strategies by their names, those of other packages.  files: paths of strategies, with the
    text that is sent.  budgets: whose networks and augmentations may be files.
    """

    device: str = "cpu"
    precision: Any = "float32"
    path: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    budgets: tuple[TrainingBudget, ...] = ()


def question(cells: Iterable[Cell], machine: Machine) -> Question:
    """Return what to ask of a node that is to run these cells."""
    from harness.cell.run import settings_of

    cells = list(cells)
    plugins = {cell.contender.plugin.name: cell.contender.plugin for cell in cells}.values()
    protocols = {cell.protocol.hash: cell.protocol for cell in cells}.values()
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
        budgets=tuple(settings_of(protocol.scenario, 0).budget for protocol in protocols),
    )


def facts(asked: Question) -> dict[str, Any]:
    """Return what this machine has, in plain values: a node with another version of this program answers too.

    environment: as in a record.  version, code: of this program.  plugins: digests by name, empty of what
    cannot be read.  device: why it cannot be used, empty where it can.
    """
    sys.path += [place for place in asked.path if place not in sys.path]
    try:
        check_device(asked.device, asked.precision)
        device = ""
    except UserError as error:
        device = str(error)
    plugins = {name: fingerprint.of_code(module) for name, module in asked.modules.items()}
    for address, source in asked.files.items():
        folder = by_path.folder_of(address.rpartition(":")[0])
        plugins[address] = fingerprint.of_code("", source, folder)
    for budget in asked.budgets:
        plugins |= _code_of_files(budget)
    return {
        "environment": of_this_machine(),
        "version": _version(),
        "code": code_here(),
        "plugins": plugins,
        "device": device,
    }


def _code_of_files(budget: TrainingBudget) -> dict[str, str]:
    try:
        return code_of_files(budget)
    except (UserError, OSError):  # a file that is not there
        return {f"{budget.backbone} or {budget.augmentations}": ""}


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


def difference(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Say what keeps a machine from working for this one, and what to do about it; empty where nothing does.

    Args:
        here: `facts` of the driver.
        there: `facts` of the machine, to the same question.
    """
    if there["code"] != here["code"]:
        versions = (
            f"{there['version'] or 'no release'} there, {here['version'] or 'no release'} here"
            if there["version"] != here["version"]
            else f"both call themselves {here['version']}"
        )
        return f"it has other code of this program ({versions}): install the same commit there"
    ours, theirs = here["environment"], there["environment"]
    if _minor(theirs["python"]) != _minor(ours["python"]):
        return f"it has Python {theirs['python']}, not {ours['python']}: install that one there"
    known, found = ours["libraries"], theirs["libraries"]
    others = [
        f"{name} {found.get(name, 'missing')} instead of {known.get(name, 'none')}"
        for name in sorted({*known, *found})
        if known.get(name) != found.get(name)
    ]
    if others:
        return f"it has other libraries ({', '.join(others)}): install the same versions there"
    for name, digest in here["plugins"].items():
        if there["plugins"].get(name) != digest:
            return (
                f"what {name} says or imports is not the same there: copy the folder of that file to the same "
                "place"
            )
    return f"{there['device']}" if there["device"] else ""


def _minor(python: str) -> list[str]:
    return python.split(".")[:2]


@dataclass(slots=True)
class _Node:
    """A node that is there. asked: its answer to come.  environment: what it said, once it was admitted.
    refusal: why it was not.
    """

    name: str
    room: int
    asked: Any = None
    environment: dict[str, Any] | None = None
    refusal: str = ""


class Nodes:
    """The nodes of the cluster that this process has joined: who is there, who may work, and for how many
    workers each has room.
    """

    def __init__(self, machine: Machine, asked: Question) -> None:
        """Ask every node."""
        import ray

        self.ray = ray
        self.machine, self.question = machine, asked
        self._here = facts(asked)
        self._there: dict[str, _Node] = {}
        self.look()

    @property
    def waiting(self) -> list[Any]:
        """References to the answers that are still to come."""
        return [node.asked for node in self._there.values() if node.asked is not None]

    @property
    def has_news(self) -> bool:
        """Whether a node has answered since the last look."""
        return bool(self.waiting) and bool(self.ray.wait(self.waiting, timeout=0)[0])

    def look(self) -> None:
        """Ask nodes that have joined, forget those that have left, and take in what was answered.

        Raises:
            UserError: no node is left that may work or has yet to answer.
        """
        alive = {node["NodeID"]: node for node in nodes_there()}
        for identity in [each for each in self._there if each not in alive]:
            del self._there[identity]
        for identity, node in alive.items():
            if identity not in self._there:
                self._there[identity] = self._met(identity, node)
        for met in self._there.values():
            if met.asked is not None and self.ray.wait([met.asked], timeout=0)[0]:
                self._take_in(met)
        if not any(node.room and not node.refusal for node in self._there.values()):
            said = [f"{node.name}: {node.refusal}" for node in self._there.values() if node.refusal]
            raise UserError(
                f"no node of the cluster is left to work{'; ' if said else ''}{'; '.join(said)}; mend it, and the "
                "same command continues"
            )

    def is_there(self, identity: str) -> bool:
        """Whether a node has not left, as far as Ray knows at this moment."""
        return any(node["NodeID"] == identity for node in nodes_there())

    def name(self, identity: str) -> str:
        """Return what people call a node that is there, or was at the last look."""
        return self._there[identity].name if identity in self._there else identity

    def environment(self, identity: str) -> dict[str, Any] | None:
        """Return what a record says of a node; None of one that has left."""
        return self._there[identity].environment if identity in self._there else None

    def refuse(self, identity: str, reason: str) -> None:
        """Leave a node out from now on."""
        if identity in self._there and not self._there[identity].refusal:
            self._refuse(self._there[identity], reason)

    def free(self, taken: Sequence[str]) -> list[str]:
        """Return the nodes that further workers are to sit on, where `taken` names those of the workers that
        are there: see `seats`.
        """
        rooms = {
            identity: node.room
            for identity, node in self._there.items()
            if node.environment is not None and not node.refusal
        }
        return seats(rooms, taken, self.machine.workers)

    def _met(self, identity: str, node: Mapping[str, Any]) -> _Node:
        met = _Node(_called(node), room(node["Resources"], self.machine))
        if met.room:
            met.asked = _ask(identity, self.question, gpus=self.machine.gpus)
        return met

    def _take_in(self, node: _Node) -> None:
        answer, node.asked = node.asked, None
        said, reason = _heard(answer, self._here)
        if reason:
            self._refuse(node, reason)
        else:
            node.environment = said["environment"]

    def _refuse(self, node: _Node, reason: str) -> None:
        node.refusal = reason
        _log.warning("node %s is left out: %s", node.name, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What was found of a node. room: for how many workers.  environment: empty where it gave no answer.
    refusal: why it would get no cell, empty where it would.
    """

    name: str
    room: int
    environment: Mapping[str, Any]
    refusal: str


def inspect(machine: Machine) -> list[Inspected]:
    """Join the cluster at the machine's address, ask every node, wait up to a minute, and leave.

    Raises:
        UserError: the cluster cannot be joined.
    """
    start(machine)
    import ray

    try:
        asked = Question(device=machine.device, precision=machine.precision, path=tuple(sys.path))
        here, there = facts(asked), nodes_there()
        answers = [_ask(node["NodeID"], asked, gpus=machine.gpus) for node in there]
        come, _ = ray.wait(answers, num_returns=len(answers), timeout=_PATIENCE_S)
        found = []
        for node, answer in zip(there, answers, strict=True):
            said, refusal = (
                _heard(answer, here) if answer in come else ({}, f"it gave no answer in {_PATIENCE_S:g} s")
            )
            fits = room(node["Resources"], machine)
            if not fits and not refusal:
                refusal = "it has no room for a worker: start it with more --num-cpus"
            found.append(
                Inspected(
                    name=_called(node),
                    room=fits,
                    environment=said["environment"] if said else {},
                    refusal=refusal,
                )
            )
        return found
    finally:
        stop()


def seats(rooms: Mapping[str, int], taken: Sequence[str], most: int | None) -> list[str]:
    """Return where further workers sit, a name per worker, spread evenly.

    Args:
        rooms: for how many workers each node has room.
        taken: the nodes of the workers that are there, a name per worker.
        most: how many workers there may be in all; None for as many as there is room for.
    """
    held = Counter(taken)
    found: list[str] = []
    while most is None or len(taken) + len(found) < most:
        open_ = [name for name, size in rooms.items() if held[name] < size]
        if not open_:
            break
        found.append(min(open_, key=lambda name: held[name]))
        held[found[-1]] += 1
    return found


def _ask(identity: str, asked: Question, *, gpus: float = 0.0) -> Any:
    """Return a reference to the `facts` of a node, which need none of its cores, and see this share of GPUs."""
    import ray

    remote: Any = ray.remote(facts).options(
        num_cpus=0, num_gpus=gpus, max_retries=0, scheduling_strategy=on(identity)
    )
    return remote.remote(asked)


def on(identity: str) -> Any:
    """Return Ray's word for: on this node and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(identity, soft=False)


def _heard(answer: Any, here: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what a node answered, and what keeps it from working: see `difference`."""
    import ray

    try:
        said = ray.get(answer)
    except ray.exceptions.RayError as error:
        return {}, _unanswered(error)
    return said, difference(here, said)


def _unanswered(error: Exception) -> str:
    """Say why a node gave no answer."""
    text = str(error)
    if any(f"No module named '{name}" in text for name in OURS) or "AttributeError" in text:
        return "this program, or this version of it, is not installed there: install the same commit"
    return f"it does not answer ({in_one_line(getattr(error, 'cause', None) or error)})"


def _called(node: Mapping[str, Any]) -> str:
    """Return what people call a node: the name it was given, or its host's, with its address."""
    address = str(node["NodeManagerAddress"])
    name = str(node.get("NodeName") or address)
    return f"{name if name != address else node.get('NodeManagerHostname') or name} ({address})"


def room(has: Mapping[str, float], machine: Machine) -> int:
    """Return how many workers fit on a node with these resources."""
    cores = int(has.get("CPU", 0.0) // machine.threads)
    return min(cores, int(has.get("GPU", 0.0) / machine.gpus + 1e-9)) if machine.gpus else cores


__all__ = [
    "Inspected",
    "Nodes",
    "Question",
    "difference",
    "facts",
    "inspect",
    "on",
    "question",
    "room",
    "seats",
]
