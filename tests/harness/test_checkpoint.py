"""What a cell keeps between stages: a damaged file costs time but no byte; what could not be put back is said
when it is set aside.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import Blobs, Means, Trains

from harness import checkpoint
from harness.cell.run import CellSettings, Member, StageResult, run_cell, run_together
from harness.cell.sealing import build
from harness.checkpoint import CannotKeep, Damaged
from harness.checks.conformance import check_strategy
from harness.contracts import Prediction, Query, Stage, Strategy, TrainingBudget
from harness.store import predictions

EPISODES = build(Blobs(items=6), 0).episodes
SETTINGS = CellSettings(root_seed=5, budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=8))


def _run(
    cls: type[Strategy],
    folder: Path,
    *,
    stages: int = 3,
    keep: bool = False,
    shared: Sequence[Path | None] = (),
) -> list[StageResult]:
    folder.mkdir(exist_ok=True)
    return list(
        run_cell(
            cls(), EPISODES[:stages], SETTINGS, scratch=folder, keep=folder if keep else None, shared=shared
        )
    )


def _digest(results: Sequence[StageResult]) -> str:
    return predictions.digest([answer for result in results for answer in result.answers])


def _flipped(content: bytes, luck: random.Random) -> bytes:
    place, bit = luck.randrange(len(content)), luck.randrange(8)
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


# --- damaged files ------------------------------------------------------------------------------------------


class Walks(Strategy):
    """A random walk through torch's and numpy's generators; every stage depends on all before it."""

    def setup(self) -> None:
        self.layer = torch.nn.Linear(8, 6)
        self.step = np.zeros(6, dtype=np.float32)

    def learn(self, stage: Stage) -> None:
        self.step = self.step + self.context.stream("method").normal(size=6).astype(np.float32)
        with torch.no_grad():
            self.layer.weight += torch.randn(6, 8) * float(self.step[0])

    def predict(self, query: Query) -> Prediction:
        with torch.no_grad():
            scores = self.layer(torch.from_numpy(np.array(query.inputs))) + torch.from_numpy(self.step)
        return Prediction(classes=scores.argmax(dim=1).numpy(), scores=scores.numpy())


FILES = ("state.pt", "answers-000.pt", "answers-001.pt", "stage-0.pt", "stage-1.pt")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, bytes]]:
    """Return what an unfaulted cell answers, and the files that one keeps which is interrupted after two of
    three stages.
    """
    folder = tmp_path_factory.mktemp("kept")
    whole = _digest(_run(Walks, folder / "whole"))
    shared = [folder / "stage-0.pt", folder / "stage-1.pt"]
    _run(Walks, folder / "cell", stages=2, keep=True, shared=shared)
    files = {path.name: path.read_bytes() for path in [*shared, *(folder / "cell").glob("*.pt")]}
    assert sorted(files) == sorted(FILES)
    return whole, files


def _continued(files: dict[str, bytes], folder: Path) -> list[StageResult]:
    """Continue the cell that kept `files`; where one of a stage is among them, as a cell of its own that
    shares it.
    """
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    shared = [folder / name for name in FILES if name.startswith("stage-") and name in files]
    return _run(Walks, folder, keep=not shared, shared=shared)


def _own(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    """Return the files that are used together with `name`."""
    return {
        other: content
        for other, content in files.items()
        if other.startswith("stage-") == name.startswith("stage-")
    }


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_changes_no_byte_of_the_answers_and_is_told_in_one_line(
    name: str, kept: tuple[str, dict[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, files = kept
    luck = random.Random(name)
    for attempt in range(30):
        caplog.clear()
        results = _continued(
            {**_own(files, name), name: _flipped(files[name], luck)}, tmp_path / str(attempt)
        )
        assert _digest(results) == whole
        (line,) = [record.getMessage() for record in caplog.records]
        assert line.startswith(f"{name} is not what was written; ")
        assert "\n" not in line
        assert (results[0].borrowed_s > 0) == (name == "stage-1.pt"), (
            "nothing kept was used but the stage before the damage"
        )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "cut in its digest": lambda content: content[:20],
    "cut after its digest": lambda content: content[:32],
    "cut in half": lambda content: content[: len(content) // 2],
    "cut by a byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "of version 0.8, without a digest": lambda content: content[32:],
}


@pytest.mark.parametrize("name", ["state.pt", "answers-001.pt", "stage-0.pt"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_file_that_is_no_longer_whole_is_learned_again(
    name: str, how: str, kept: tuple[str, dict[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, files = kept
    assert (
        _digest(_continued({**_own(files, name), name: DAMAGE[how](files[name])}, tmp_path / "cell")) == whole
    )
    assert len(caplog.records) == 1
    caplog.clear()
    again = _run(
        Walks,
        tmp_path / "cell",
        keep=True,
        shared=[tmp_path / "cell" / "stage-0.pt"] * name.startswith("stage-"),
    )
    assert _digest(again) == whole
    assert again[0].borrowed_s > 0, "what was damaged has been kept anew"
    assert not caplog.records


@pytest.mark.parametrize("name", ["answers-000.pt", "answers-001.pt"])
def test_answers_that_are_gone_are_learned_again(
    name: str, kept: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    whole, files = kept
    results = _continued(
        {other: content for other, content in _own(files, name).items() if other != name}, tmp_path / "cell"
    )
    assert _digest(results) == whole
    assert [result.borrowed_s for result in results] == [0, 0, 0]


def test_an_undamaged_cell_continues_with_the_same_bytes(
    kept: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    whole, files = kept
    results = _continued(_own(files, "state.pt"), tmp_path / "cell")
    assert _digest(results) == whole
    assert [result.borrowed_s > 0 for result in results] == [True, True, False]


def test_a_damaged_member_of_a_pack_learns_again_with_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (episode,) = build(Blobs(stages=1, items=6), 0).episodes
    member = Member(strategy=Walks(), episode=episode, settings=SETTINGS, scratch=tmp_path, keep=tmp_path)
    whole = run_together([member])
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(_flipped(content, random.Random(0)))
    again = run_together(
        [Member(strategy=Walks(), episode=episode, settings=SETTINGS, scratch=tmp_path, keep=tmp_path)]
    )
    assert _digest(again) == _digest(whole)
    assert len(caplog.records) == 1
    assert (tmp_path / "state.pt").read_bytes() == content


def test_a_file_that_names_what_is_not_admitted_is_refused_without_torchs_advice(
    kept: tuple[str, dict[str, bytes]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its digest is right; torch would say how to have it run what it names."""
    whole, files = kept
    torch.save({"stages": 2, "state": Path("x")}, tmp_path / "odd.pt")
    odd = (tmp_path / "odd.pt").read_bytes()
    odd = hashlib.sha256(odd).digest() + odd
    (tmp_path / "odd.pt").write_bytes(odd)
    with pytest.raises(Damaged, match=r"^odd\.pt cannot be read here: UnpicklingError$") as refused:
        checkpoint.load(tmp_path / "odd.pt")
    assert refused.value.__cause__ is None and refused.value.__suppress_context__
    for name in ("state.pt", "stage-0.pt"):
        assert _digest(_continued({**_own(files, name), name: odd}, tmp_path / name)) == whole
    assert "weights_only" not in caplog.text
    assert len(caplog.records) == 2


class Grows(Walks):
    """Puts a layer of another shape where `setup` made one, which torch does not load back."""

    def learn(self, stage: Stage) -> None:
        super().learn(stage)
        self.head = torch.nn.Linear(3, stage.named_classes)

    def setup(self) -> None:
        super().setup()
        self.head = torch.nn.Linear(3, 1)


def test_a_state_that_does_not_load_is_dropped_and_the_stages_are_learned_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = _digest(_run(Grows, tmp_path / "whole"))
    shared = [tmp_path / "stage-0.pt", tmp_path / "stage-1.pt"]
    _run(Grows, tmp_path / "first", stages=2, keep=True, shared=shared)
    assert _digest(_run(Grows, tmp_path / "first", keep=True)) == whole
    assert _digest(_run(Grows, tmp_path / "second", shared=shared)) == whole, (
        "each cell goes on from the state it was in"
    )
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(":")[0] for line in lines] == ["the kept state cannot be loaded (RuntimeError"] * 3
    assert [line.rpartition("; ")[2] for line in lines] == [
        "the cell begins at its first stage",
        *["the stage is learned again"] * 2,
    ]
    assert not any("\n" in line for line in lines)
    broken = [finding for finding in check_strategy(Grows, Blobs(items=6)) if not finding.holds]
    assert [finding.claim for finding in broken] == ["a killed cell continues to the same bytes"]


class Forgets(Means):
    """Has no memory to load its state into."""

    def load_state(self, state: Any) -> None:
        raise MemoryError("no room for it")


def test_where_memory_is_short_the_file_is_kept(tmp_path: Path) -> None:
    _run(Forgets, tmp_path / "cell", stages=2, keep=True)
    with pytest.raises(MemoryError):
        _run(Forgets, tmp_path / "cell", keep=True)
    assert (tmp_path / "cell" / "state.pt").is_file()


def test_a_write_that_fails_leaves_the_file_before_it_and_nothing_else(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state.pt", {"stages": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save(tmp_path / "state.pt", {"stages": lambda: 2})
    assert checkpoint.load(tmp_path / "state.pt") == {"stages": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


# --- what can be kept ---------------------------------------------------------------------------------------


class Holds(Means):
    """Sets on itself what a test wants it to hold after a stage."""

    held: Callable[[], Any]

    def learn(self, stage: Stage) -> None:
        super().learn(stage)
        self.thing = type(self).held()


def _holding(made: Callable[[], Any], cls: type[Holds] = Holds) -> type[Holds]:
    return type("Holding", (cls,), {"held": staticmethod(made)})


class Pair(NamedTuple):
    a: int
    b: int


KEPT: dict[str, tuple[Callable[[], Any], Any]] = {
    "a number of numpy's": (lambda: np.float64(0.5), 0.5),
    "numbers of numpy's in containers": (
        lambda: {np.int64(3): [np.float32(0.5), (np.bool_(True), np.str_("x"))]},
        {3: [0.5, (True, "x")]},
    ),
    "keys of several kinds": (
        lambda: {(1, "a"): 1, None: 2, 2.5: 3, b"x": 4},
        {(1, "a"): 1, None: 2, 2.5: 3, b"x": 4},
    ),
    "ordered and counted": (
        lambda: [OrderedDict(b=1, a=2), Counter("abba")],
        [OrderedDict(b=1, a=2), Counter("abba")],
    ),
    "torch's own": (
        lambda: (torch.zeros(2, 3).shape, torch.float16, torch.device("cpu")),
        (torch.Size([2, 3]), torch.float16, torch.device("cpu")),
    ),
    "complex": (lambda: np.complex64(1 + 2j), 1 + 2j),
}


def _types(value: Any) -> Any:
    if isinstance(value, dict):
        return type(value), [(_types(key), _types(item)) for key, item in value.items()]
    return (
        (type(value), [_types(item) for item in value]) if isinstance(value, (list, tuple)) else type(value)
    )


@pytest.mark.parametrize("name", KEPT)
def test_what_is_plain_comes_back_as_it_was_and_numbers_of_numpys_as_pythons(
    name: str, tmp_path: Path
) -> None:
    made, expected = KEPT[name]
    cls = _holding(made)
    whole = _run(cls, tmp_path / "whole")
    _run(cls, tmp_path / "cell", stages=2, keep=True)
    thing = checkpoint.load(tmp_path / "cell" / "state.pt")["state"]["thing"]
    assert thing == expected
    assert _types(thing) == _types(expected)
    continued = _run(cls, tmp_path / "cell", keep=True)
    assert continued[1].borrowed_s > 0
    assert _digest(continued) == _digest(whole)


@pytest.mark.parametrize(
    "kind",
    ["uint16", "uint64", "complex64", "U3", "S3", "M8[D]", "m8[s]", ">f4", "float16", "bool", "longdouble"],
)
def test_arrays_of_every_plain_kind_are_kept(kind: str, tmp_path: Path) -> None:
    array = np.array([0, 1, 1]).astype(kind)
    checkpoint.save(
        tmp_path / "x.pt", {"x": checkpoint.kept_state(_started(_holding(lambda: array)).state())["thing"]}
    )
    found = checkpoint.load(tmp_path / "x.pt")["x"]
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def _started(cls: type[Holds]) -> Holds:
    strategy = cls()
    strategy.setup()
    strategy.made_in_setup = checkpoint.parts_of(strategy)
    strategy.thing = cls.held()
    return strategy


def test_a_mapped_array_is_kept_as_an_array(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "m", dtype=np.int16, shape=(3,), mode="w+")
    mapped[:] = [1, 2, 3]
    checkpoint.save(tmp_path / "x.pt", checkpoint.kept_state(_started(_holding(lambda: mapped[1:])).state()))
    found = checkpoint.load(tmp_path / "x.pt")["thing"]
    assert (type(found), found.tolist()) == (np.ndarray, [2, 3])


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.text(max_size=5),
        st.binary(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(
            st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2))),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_plain_value_survives_a_file(tmp_path: Path, value: Any) -> None:
    checkpoint.save(tmp_path / "x.pt", checkpoint.kept_state(_started(_holding(lambda: value)).state()))
    again = _started(_holding(lambda: None))
    again.load_state(checkpoint.load(tmp_path / "x.pt"))
    assert again.thing == value
    assert _types(again.thing) == _types(value)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a named tuple": (lambda: Pair(1, 2), "attribute 'thing' is a Pair, which cannot be kept between stages"),
    "a mapping with a default": (
        lambda: {"of": defaultdict(int)},
        r"attribute \"thing\['of'\]\" is a defaultdict, which cannot be kept",
    ),
    "a queue": (lambda: [0, deque()], r"attribute 'thing\[1\]' is a deque, which cannot be kept"),
    "a set": (lambda: {1, 2}, "attribute 'thing' is a set, which cannot be kept"),
    "a function": (
        lambda: math.sin,
        "attribute 'thing' is a builtin_function_or_method, which cannot be kept",
    ),
    "an array of objects": (
        lambda: np.array([{}]),
        "attribute 'thing' is an array of object, which cannot be kept",
    ),
    "a masked array": (
        lambda: np.ma.masked_array([1]),
        "attribute 'thing' is a MaskedArray, which cannot be kept",
    ),
    "a generator": (
        lambda: np.random.default_rng(0),
        "attribute 'thing' is a Generator, which cannot be kept",
    ),
    "a network": (lambda: torch.nn.Linear(2, 2), "attribute 'thing' was made in learn, .*: make it in setup"),
    "a network in a list": (
        lambda: [1, torch.nn.Linear(2, 2)],
        r"attribute 'thing\[1\]' was made in learn, .*: make it in setup",
    ),
    "an optimiser": (
        lambda: torch.optim.SGD([torch.zeros(1)], 0.1),
        "attribute 'thing' was made in learn, .*: make it in setup",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_put_back_is_named_before_the_next_stage_begins(name: str, tmp_path: Path) -> None:
    made, said = REFUSED[name]
    cls = _holding(made)
    (tmp_path / "cell").mkdir()
    results = run_cell(cls(), EPISODES, SETTINGS, scratch=tmp_path, keep=tmp_path / "cell")
    assert next(results).stage == 0
    with pytest.raises(CannotKeep, match=f"^{said}"):
        next(results)
    with pytest.raises(
        CannotKeep, match=f"^{said}"
    ):  # so it ends however often it is tried, and where stages are shared
        _run(cls, tmp_path / "cell", keep=True)
    with pytest.raises(CannotKeep, match=f"^{said}"):
        _run(cls, tmp_path / "other", shared=[tmp_path / "stage-0.pt"])
    assert not (tmp_path / "stage-0.pt").exists()


def test_after_the_last_stage_nobody_needs_the_state(tmp_path: Path) -> None:
    cls = _holding(lambda: torch.nn.Linear(2, 2))
    assert len(_run(cls, tmp_path / "cell", stages=1, keep=True)) == 1
    again = type("Again", (cls,), {"resumable": False})
    assert len(_run(again, tmp_path / "again", keep=True)) == 3
    apart = CellSettings(
        root_seed=5, budget=TrainingBudget(backbone="mlp", epochs=1, batch_size=8, apart=True)
    )
    (tmp_path / "apart").mkdir()
    for stages in (2, 3):
        results = list(run_cell(cls(), EPISODES[:stages], apart, scratch=tmp_path, keep=tmp_path / "apart"))
    assert [result.borrowed_s > 0 for result in results] == [True, True, False]


class Remakes(Holds):
    """Makes anew what it loads its state into."""

    def load_state(self, state: Any) -> None:
        self.thing = torch.nn.Linear(2, 2)
        super().load_state(state)


class Neglects(Holds):
    """Replaces `load_state`, and does not make what the state is loaded into."""

    def load_state(self, state: Any) -> None:
        super().load_state(state)


def test_a_strategy_that_loads_its_state_itself_may_make_parts_in_learn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cls = _holding(lambda: torch.nn.Linear(2, 2), Remakes)
    _run(cls, tmp_path / "cell", stages=2, keep=True)
    assert _run(cls, tmp_path / "cell", keep=True)[1].borrowed_s > 0
    assert not caplog.records
    cls = _holding(lambda: torch.nn.Linear(2, 2), Neglects)
    _run(cls, tmp_path / "other", stages=2, keep=True)
    assert _run(cls, tmp_path / "other", keep=True)[1].borrowed_s == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert "attribute 'thing' was made in learn" in line


class Nested(Trains):
    """Trains a layer that lies in a list in a dictionary, by an optimiser with momentum and a schedule, all
    made in setup.
    """

    def setup(self) -> None:
        self.parts: dict[str, Any] = {
            "layers": [torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 6)],
            "rate": np.float64(0.1),
        }
        self.optimiser = torch.optim.SGD(
            [weights for part in self.parts["layers"] for weights in part.parameters()], np.float64(0.1), 0.9
        )
        self.schedule = torch.optim.lr_scheduler.MultiStepLR(self.optimiser, [1, 2])

    def _scores(self, inputs: np.ndarray[Any, Any]) -> torch.Tensor:
        normal, layer = self.parts["layers"]
        scores: torch.Tensor = layer(normal(torch.from_numpy(np.array(inputs))))
        return scores

    def learn(self, stage: Stage) -> None:
        for _ in range(3):
            loss = torch.nn.functional.cross_entropy(
                self._scores(stage.inputs[:]), torch.tensor(stage.labels)
            )
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
        self.schedule.step()

    def predict(self, query: Query) -> Prediction:
        self.parts["layers"][0].eval()
        with torch.no_grad():
            scores = self._scores(query.inputs[:])
        self.parts["layers"][0].train()
        return Prediction(classes=scores.argmax(dim=1).numpy(), scores=scores.numpy())


def test_parts_in_containers_and_optimisers_of_setup_are_loaded_into(tmp_path: Path) -> None:
    whole = _run(Nested, tmp_path / "whole")
    _run(Nested, tmp_path / "cell", stages=2, keep=True)
    continued = _run(Nested, tmp_path / "cell", keep=True)
    assert continued[1].borrowed_s > 0
    assert _digest(continued) == _digest(whole)
    strategy = Nested()
    strategy.setup()
    layers = strategy.parts["layers"]
    strategy.load_state(checkpoint.load(tmp_path / "cell" / "state.pt")["state"])
    assert strategy.parts["layers"][1] is layers[1], "which the optimiser trains"
    assert checkpoint.load(tmp_path / "cell" / "state.pt")["state"]["parts"]["layers"][0]._metadata[""] == {
        "version": 2
    }
