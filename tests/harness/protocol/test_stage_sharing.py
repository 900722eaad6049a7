"""Stages that cells share are learned once, and nothing that is answered shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from pydantic.fields import FieldInfo
from worlds import Blobs, HiddenBlobs, Means, NovelBlobs

from harness import checkpoint
from harness.cell.run import CellSettings, StageResult, run_cell
from harness.cell.sealing import seal
from harness.contracts import Prediction, Query, Scenario, Stage, Strategy, param
from harness.errors import Unsuitable, UserError
from harness.parameters import model_of
from harness.plugins import Plugin, find, registered
from harness.protocol.cells import Cell, Contender, Protocol
from harness.protocol.stage_sharing import Sharing, saved, stage_keys
from harness.selection import configured
from harness.store import predictions


class Drifts(Strategy):
    """A random walk that adds `early` in every stage, `middle` from stage 1 and `late` from stage 2 on; it
    answers its place.
    """

    early: float = param(1.0)
    middle: float = param(0.0, since_stage=1)
    late: float = param(0.0, since_stage=2)

    learned: ClassVar[list[int]] = []

    def setup(self) -> None:
        self.place = np.zeros(8)

    def learn(self, stage: Stage) -> None:
        Drifts.learned.append(stage.index)
        self.place = self.place + self.context.stream("method").normal(size=8) + self.early
        self.place += self.middle * (stage.index >= 1) + self.late * (stage.index >= 2)

    def predict(self, query: Query) -> Prediction:
        near = -np.abs(query.inputs[np.arange(len(query.ids))][:, :, None] - self.place).sum(axis=1)
        return Prediction(classes=near.argmax(axis=1), scores=near)


WORLD = Blobs(stages=4)
VALUES: Sequence[dict[str, float]] = (
    {},
    {"late": 3.0},
    {"middle": 2.0},
    {"middle": 2.0, "late": 3.0},
    {"early": 5.0},
)


def _cell(
    values: dict[str, float], scenario: Scenario = WORLD, cls: type[Strategy] = Drifts, seed: int = 0
) -> Cell:
    params = model_of(cls)(**values).model_dump(mode="json")
    contender = Contender(
        label=f"drifts{values}",
        plugin=Plugin(kind="strategy", name=cls.__name__, cls=cls),
        params=params,
        code="code",
    )
    return Cell(
        protocol=Protocol(label="blobs", scenario_name="blobs", scenario=scenario),
        contender=contender,
        seed=seed,
    )


def _run(cell: Cell, folder: Path, shared: Sequence[Path | None] = ()) -> list[StageResult]:
    episodes = seal(cell.protocol.scenario.deal(cell.seed), cell.seed).episodes
    strategy = cell.contender.plugin.cls(**cell.contender.params)
    settings = CellSettings(root_seed=7 + cell.seed, budget=cell.protocol.scenario.budget())
    return list(run_cell(strategy, episodes, settings, scratch=folder, shared=shared))


def _digest(results: Sequence[StageResult]) -> str:
    return predictions.digest([answer for result in results for answer in result.answers])


def test_cells_share_the_stages_before_they_differ() -> None:
    plain, late, middle, both, early = (stage_keys(_cell(values)) for values in VALUES)
    assert len(plain) == 3  # the last stage of four is nobody else's
    shared = [
        [first == second != "" for first, second in zip(plain, other, strict=True)]
        for other in (late, middle, both, early)
    ]
    assert shared == [[True, True, False], [True, False, False], [True, False, False], [False, False, False]]
    assert middle[:2] == both[:2]
    assert plain[2] == ""  # all parameters decide it
    assert set(stage_keys(_cell({}, seed=1))) & set(plain) == {""}


def test_a_class_that_moves_keeps_what_it_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_keys(_cell({}))
    monkeypatch.setattr(Drifts, "__module__", "elsewhere")
    assert stage_keys(_cell({})) == before


def test_shared_stages_give_the_bytes_of_unshared_ones_and_are_learned_once(tmp_path: Path) -> None:
    cells = [_cell(values) for values in VALUES]
    alone = [_digest(_run(cell, tmp_path)) for cell in cells]
    Drifts.learned.clear()
    sharing = Sharing(cells, tmp_path / "stages")
    assert saved(cells, sharing)[:2] == (20, 15)
    results = [_run(cell, tmp_path, sharing.paths(cell)) for cell in cells]
    assert [_digest(each) for each in results] == alone
    assert len(set(alone)) == 5
    # {} learns 4; late shares 0 and 1; middle shares 0; both shares 0 and 1 (of middle); early none
    assert len(Drifts.learned) == 4 + 2 + 3 + 2 + 4
    assert [[result.borrowed_s > 0 for result in each] for each in results] == [
        [False] * 4,
        [True, True, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [False] * 4,
    ]


def test_the_work_that_is_saved_is_counted_in_items_and_passes(tmp_path: Path) -> None:
    """Blobs have as many items in every stage; by hand: 5 x 4 stages, 15 of which are learned."""
    cells = [_cell(values) for values in VALUES]
    sharing = Sharing(cells, tmp_path / "stages")
    assert saved(cells, sharing)[2] == pytest.approx(20 / 15)
    _run(cells[0], tmp_path, sharing.paths(cells[0]))  # keeps what the others need
    assert saved(cells[1:], Sharing(cells[1:], tmp_path / "stages"))[:2] == (16, 11)
    assert saved(cells, Sharing([], tmp_path / "stages"))[:2] == (20, 20)


def test_an_enlarged_sweep_begins_from_what_is_kept(tmp_path: Path) -> None:
    first = [_cell({}), _cell({"late": 1.0})]
    sharing = Sharing(first, tmp_path / "stages")
    for cell in first:
        _run(cell, tmp_path, sharing.paths(cell))
    added = _cell({"late": 2.0})
    Drifts.learned.clear()
    results = _run(added, tmp_path, Sharing([added], tmp_path / "stages").paths(added))
    assert Drifts.learned == [2, 3]
    assert _digest(results) == _digest(_run(added, tmp_path))


def test_an_interrupted_cell_continues_from_its_own_state(tmp_path: Path) -> None:
    cell = _cell({"late": 3.0})
    paths = [tmp_path / "zero.pt", tmp_path / "one.pt", None]
    whole = _run(cell, tmp_path, paths)
    episodes = seal(WORLD.deal(0), 0).episodes
    settings, keep = CellSettings(root_seed=7, budget=WORLD.budget()), tmp_path / "keep"
    keep.mkdir()
    for until in (2, 4):
        strategy = Drifts(late=3.0)
        results = list(
            run_cell(strategy, episodes[:until], settings, scratch=tmp_path, keep=keep, shared=paths)
        )
    assert _digest(results) == _digest(whole)


def test_nothing_is_shared_where_it_cannot_be() -> None:
    probed = WORLD.model_copy(update={"probe_every": 5})
    by_path = replace(
        _cell({}).contender, plugin=Plugin(kind="strategy", name="x.py:Drifts", cls=Drifts, source="text")
    )
    assert stage_keys(_cell({}, probed)) == ()
    assert stage_keys(replace(_cell({}), contender=by_path)) == ()
    assert stage_keys(_cell({}, cls=Means)) == ()  # all its parameters matter from the first stage on
    assert stage_keys(_cell({}, Blobs(stages=1))) == ()


def test_cells_that_would_wait_come_after_those_that_need_not(tmp_path: Path) -> None:
    cells = [_cell(values) for values in VALUES]
    sharing = Sharing(cells, tmp_path)
    awaited = sharing.still_to_learn(cells[0], 0)
    assert len(awaited) == 2
    assert [sharing.next_to_learn(cell) in awaited for cell in cells[1:]] == [True, True, True, False]
    assert sharing.still_to_learn(cells[0], 2) == set()


# --- what is declared holds ---------------------------------------------------------------------------------

SURFACES = "anomaly[categories=brick+rock,setting=continual,n_train=12,n_good=4,n_bad=4]"


def _late(name: str) -> dict[str, list[Any]]:
    """Return, by parameter with since_stage=1, the values it is switched to: those declared, else neighbours
    of the default.
    """
    cls, found = find("strategy", name).cls, {}
    for parameter, field in model_of(cls).model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        assert extra["since_stage"] in (0, 1)
        if extra["since_stage"]:
            found[parameter] = [*extra["ablate"]] or [
                value for value in _neighbours(field) if _is_valid(cls, parameter, value)
            ]
    return found


def _neighbours(field: FieldInfo) -> list[Any]:
    default = field.default
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, (int, float)):
        return [type(default)(value) for value in (default / 2, default + 1) if value != default]
    return [value for value in get_args(field.annotation) if value != default]


def _is_valid(cls: type[Strategy], parameter: str, value: Any) -> bool:
    try:
        cls(**{parameter: value})
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [name for name in sorted(registered("strategy")) if find("strategy", name).cls.resumable and _late(name)],
)
def test_a_parameter_leaves_the_state_after_earlier_stages_alone(name: str, tmp_path: Path) -> None:
    """Parameters with since_stage=1, one at a time: the state after stage 0 stays as it is, to the byte."""
    cls = find("strategy", name).cls
    worlds: list[Scenario] = [
        Blobs(items=150, epochs=1),
        HiddenBlobs(items=150),
        NovelBlobs(items=150),
        configured("scenario", SURFACES),
    ]

    def state(world: Scenario, values: dict[str, Any]) -> bytes | None:
        strategy, folder = cls(**values), tmp_path / "scratch"
        folder.mkdir(exist_ok=True)
        settings = CellSettings(root_seed=3, budget=world.budget(), needed=world.answers)
        try:
            list(
                run_cell(
                    strategy,
                    seal(world.deal(0), 0).episodes[:1],
                    settings,
                    scratch=folder,
                    shared=[tmp_path / "state.pt"],
                )
            )
        except Unsuitable:
            return None
        torch.save(checkpoint.load(tmp_path / "state.pt")["state"], tmp_path / "alone.pt")
        (tmp_path / "state.pt").unlink()
        return (tmp_path / "alone.pt").read_bytes()

    world, plain = next((world, found) for world in worlds if (found := state(world, {})) is not None)
    assert plain == state(world, {})  # else a difference would say nothing
    wrong = []
    for parameter, values in _late(name).items():
        wrong += [f"{parameter}={value}" for value in values if state(world, {parameter: value}) != plain]
    assert wrong == []
