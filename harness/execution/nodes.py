"""The nodes of a Ray cluster that was joined: who is there, who may work, and how many workers each has room
for.

Every node says what it has before it works (`facts`), and the driver compares. To one with other code, of this
program or of a plugin, that of the driver is sent (`shipping`), and it is asked again. With other libraries or
another Python, or without the device, a node gets no cell, and the run goes on with the others. Processors may
differ, and libraries where the machine says so; the record of a cell names those that it ran on.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.code.imports import OURS
from harness.errors import UserError, in_one_line
from harness.execution.cluster import has_labels, nodes_there, start, stop, wait_for_head
from harness.execution.facts import Question, difference, facts, lacks_code, other_libraries, question_of
from harness.execution.machine import Machine
from harness.execution.shipping import Parcel, Sent, by_value, parcel, sent

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
_HEAD_S = 15.0
"""How long the head of the cluster may be out of reach; Ray ends a driver after 60."""
_LOADING_S = 240.0
"""How long a node that runs may take to answer; one whose GPUs are taken may take any time."""


@dataclass(slots=True)
class _Node:
    """A node that is there. met_s: when it was met.  asked: its answer to come.  environment: what it said, once it
    was admitted.  refusal: why it was not.  sees_store: whether it sees the driver's folder of the store.
    parcel: code on its way to it, which is what it is asked for then.  sent: code that it got.
    """

    name: str
    room: int
    met_s: float
    asked: Any = None
    environment: dict[str, Any] | None = None
    refusal: str = ""
    sees_store: bool = True
    parcel: Parcel | None = None
    sent: Sent | None = None


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
        self._parcel: tuple[Parcel, Any] | None = None
        self._head = ray.get_runtime_context().gcs_address
        self.has_head = True
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
            UserError: the head is gone, or no node is left that may work or has yet to answer.
        """
        alive = {node["NodeID"]: node for node in self._alive()}
        for identity in [each for each in self._there if each not in alive]:
            del self._there[identity]
        for identity, node in alive.items():
            if identity not in self._there:
                self._there[identity] = self._met(identity, node)
        for identity, met in self._there.items():
            if met.asked is not None and self.ray.wait([met.asked], timeout=0)[0]:
                self._take_in(identity, met)
            elif (
                met.asked is not None and not self.machine.gpus and time.monotonic() - met.met_s > _LOADING_S
            ):
                met.asked = None
                self._refuse(met, f"it gave no answer in {_LOADING_S:g} s")
        if not any(node.room and not node.refusal for node in self._there.values()):
            said = [f"{node.name}: {node.refusal}" for node in self._there.values() if node.refusal]
            raise UserError(
                f"no node of the cluster is left to work{'; ' if said else ''}{'; '.join(said)}; mend it, and the "
                "same command continues"
            )

    def is_there(self, identity: str) -> bool:
        """Whether a node has not left, as far as Ray knows at this moment."""
        return any(node["NodeID"] == identity for node in self._alive())

    def _alive(self) -> list[dict[str, Any]]:
        """Return what Ray says of the nodes that have not left; raise `UserError` where the head has."""
        try:
            wait_for_head(self._head, _HEAD_S)
        except UserError:
            self.has_head = False
            raise
        return nodes_there()

    def name(self, identity: str) -> str:
        """Return what people call a node that is there, or was at the last look."""
        return self._there[identity].name if identity in self._there else identity

    def environment(self, identity: str) -> dict[str, Any] | None:
        """Return what a record says of a node; None of one that has left."""
        return self._there[identity].environment if identity in self._there else None

    def sees_store(self, identity: str) -> bool:
        """Whether a node sees the driver's folder of the store, or did before it left."""
        return identity not in self._there or self._there[identity].sees_store

    def sent(self, identity: str) -> Sent | None:
        """Return the code that a node got; None where it has its own."""
        return self._there[identity].sent if identity in self._there else None

    def is_refused(self, identity: str) -> bool:
        """Whether a node was left out."""
        return identity in self._there and bool(self._there[identity].refusal)

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
        met = _Node(_called(node), room(node, self.machine), time.monotonic())
        if met.room:
            met.asked = _ask(identity, self.question, gpus=self.machine.gpus)
        return met

    def _take_in(self, identity: str, node: _Node) -> None:
        answer, node.asked = node.asked, None
        if node.parcel is not None:
            self._take_in_sent(identity, node, answer)
            return
        said, lacks, reason = _heard(answer, self._here, mixed=self.machine.mixed)
        if lacks and node.sent is None:
            self._send(identity, node, lacks)
        elif lacks or reason:
            self._refuse(node, f"{lacks}, also with the files that it was sent" if lacks else reason)
        else:
            others = other_libraries(self._here, said)
            node.environment = said["environment"] | ({"mixed": others} if others else {})
            node.sees_store = said["sees_store"]
            if others:
                _log.warning("node %s has other libraries (%s): its cells are marked", node.name, others)

    def _send(self, identity: str, node: _Node, lacks: str) -> None:
        """Send a node the code that it lacks; it is made up once for all nodes."""
        try:
            if self._parcel is None:
                made = parcel(self.question)
                self._parcel = made, self.ray.put(made.archive)
        except UserError as error:
            self._refuse(node, f"{lacks}, and {error}")
            return
        node.parcel, archive = self._parcel
        unpack: Any = self.ray.remote(by_value()).options(
            num_cpus=0, max_retries=0, scheduling_strategy=on(identity)
        )
        node.asked, node.met_s = unpack.remote(archive, node.parcel.digest), time.monotonic()
        _log.warning("node %s is sent this code: %s", node.name, lacks)

    def _take_in_sent(self, identity: str, node: _Node, answer: Any) -> None:
        """Ask a node again that has got the code."""
        assert node.parcel is not None
        try:
            node.sent, node.parcel = sent(node.parcel, self.ray.get(answer)), None
        except self.ray.exceptions.RayError as error:
            why = in_one_line(getattr(error, "cause", None) or error)
            self._refuse(node, f"this code cannot be sent there ({why})")
            return
        node.met_s = time.monotonic()
        node.asked = _ask(identity, self.question, gpus=self.machine.gpus, sent=node.sent)

    def _refuse(self, node: _Node, reason: str) -> None:
        node.refusal = reason
        _log.warning("node %s is left out: %s", node.name, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """What was found of a node. room: for how many workers.  environment: empty where it gave no answer.
    lacks: what code a run would have to send it.  refusal: why it would get no cell even so, empty where it would.
    """

    name: str
    room: int
    environment: Mapping[str, Any]
    lacks: str
    refusal: str


def inspect(machine: Machine) -> list[Inspected]:
    """Join the cluster at the machine's address, ask every node, and leave.

    Raises:
        UserError: the cluster cannot be joined.
    """
    start(machine, waits=False)
    try:
        return inspected(machine, question_of([], [], machine))
    finally:
        stop()


def inspected(machine: Machine, asked: Question) -> list[Inspected]:
    """Ask every node of the cluster that was joined; wait up to a minute."""
    import ray

    here, there = facts(asked), nodes_there()
    answers = [
        _ask(node["NodeID"], asked, gpus=machine.gpus if room(node, machine) else 0.0) for node in there
    ]
    come, _ = ray.wait(answers, num_returns=len(answers), timeout=_PATIENCE_S)
    found = []
    for node, answer in zip(there, answers, strict=True):
        said, lacks, refusal = (
            _heard(answer, here, mixed=machine.mixed)
            if answer in come
            else ({}, "", f"it gave no answer in {_PATIENCE_S:g} s")
        )
        fits = room(node, machine)
        if not fits and not refusal:
            refusal = "it has no room for a worker: start it with more --num-cpus or other resources"
        environment = said["environment"] if said else {}
        found.append(
            Inspected(name=_called(node), room=fits, environment=environment, lacks=lacks, refusal=refusal)
        )
    return found


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


def _ask(identity: str, asked: Question, *, gpus: float = 0.0, sent: Sent | None = None) -> Any:
    """Return a reference to the `facts` of a node, which need none of its cores, and see this share of GPUs."""
    import ray

    remote: Any = ray.remote(facts).options(
        num_cpus=0,
        num_gpus=gpus,
        max_retries=0,
        scheduling_strategy=on(identity),
        runtime_env=sent and sent.runtime_env,
    )
    return remote.remote(sent.asked(asked) if sent else asked)


def on(identity: str) -> Any:
    """Return Ray's word for: on this node and no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(identity, soft=False)


def _heard(answer: Any, here: Mapping[str, Any], *, mixed: bool) -> tuple[dict[str, Any], str, str]:
    """Return what a node answered, what code it lacks, and what keeps it from working even with that: see
    `difference`.
    """
    import ray

    try:
        said = ray.get(answer)
    except ray.exceptions.RayError as error:
        return {}, *_unanswered(error)
    return said, lacks_code(here, said), difference(here, said, mixed=mixed)


def _unanswered(error: Exception) -> tuple[str, str]:
    """Say why a node gave no answer: what code it lacks, or what else it is."""
    text = str(error)
    if any(f"No module named '{name}" in text for name in OURS) or "AttributeError" in text:
        return "this program, or this version of it, is not installed there", ""
    if missing := re.search("No module named '([^']+)'", text):
        return "", f"it lacks the library {missing[1]}: install what this program needs there"
    return "", f"it does not answer ({in_one_line(getattr(error, 'cause', None) or error)})"


def _called(node: Mapping[str, Any]) -> str:
    """Return what people call a node: the name it was given, or its host's, with its address."""
    address = str(node["NodeManagerAddress"])
    name = str(node.get("NodeName") or address)
    return f"{name if name != address else node.get('NodeManagerHostname') or name} ({address})"


def room(node: Mapping[str, Any], machine: Machine) -> int:
    """Return how many workers fit on a node, by what Ray says of its resources and labels."""
    has = node["Resources"]
    if not has_labels(node, machine):
        return 0
    return min(int(has.get(kind, 0.0) / amount + 1e-9) for kind, amount in machine.needed.items())


__all__ = ["Inspected", "Nodes", "inspect", "inspected", "on", "room", "seats"]
