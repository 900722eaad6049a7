"""Cells that learn together end as they would have alone, in packs that follow from the plan; and a pack
costs no cell its result.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from together_worlds import HERE, Coins, Copycat, Descent, Stranger
from worlds import Blobs, Means

from harness import seeds
from harness.cell.run import CellSettings, Member, learner_seed, run_cell, run_together
from harness.cell.sealing import seal
from harness.checks.conformance import check_strategy
from harness.cli import main
from harness.contracts import Status, Strategy, TrainingBudget
from harness.execution import execute as execution
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import Cell, Suite, cells, contenders, protocols
from harness.protocol.packing import packs
from harness.store.mlflow_store import Store
from harness.store.record import Record
from leaderboards.publishing.board import read_board
from leaderboards.publishing.check import check_board
from leaderboards.publishing.publish import publish

CLAIM = "two cells at once answer as each alone"
Together = Callable[..., list[Record]]


def _cells(strategies: Sequence[str], scenarios: Sequence[str] = ("Coins",), *, seeds: int = 1) -> list[Cell]:
    return cells(
        protocols([f"{HERE}:{name}" for name in scenarios]),
        contenders([f"{HERE}:{name}" for name in strategies]),
        seeds,
    )


def _sizes(todo: Sequence[Cell]) -> list[int]:
    return [len(pack) for pack in packs(todo)]


# --- packs --------------------------------------------------------------------------------------------------


def test_alike_cells_of_several_protocols_and_seeds_make_even_packs_of_neighbours() -> None:
    """3 rates x 2 protocols x 3 seeds = 18 alike cells at 4 a pack: 5 packs, cut at 18 i // 5 = 0, 3, 7, 10,
    14, 18.
    """
    todo = _cells(["Descent[rate=[0.1,0.2,0.3]]"], ["Coins[corrupted=[0.0,0.3]]"], seeds=3)
    found = packs(todo)
    assert [len(pack) for pack in found] == [3, 4, 3, 4, 4]
    assert [cell for pack in found for cell in pack] == todo


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1]), (2, [1, 1]), (3, [1, 2]), (4, [2, 2]), (8, [4, 4]), (9, [3, 3, 3])]
)
def test_a_second_worker_always_has_something_to_do(count: int, sizes: list[int]) -> None:
    assert _sizes(_cells(["Descent"], seeds=count)) == sizes


def test_cells_that_differ_in_more_than_is_declared_learn_apart() -> None:
    alike = [
        "Descent[group=a]",
        "Descent[group=a,rate=0.2]",
        "Descent[group=a,rate=0.3]",
        "Descent[group=a,rate=0.4]",
    ]
    assert _sizes(_cells(alike)) == [2, 2]
    assert _sizes(_cells([*alike[:2], "Descent[group=b]", "Descent[group=b,rate=0.2]"])) == [1] * 4
    assert _sizes(_cells(alike[:2], ["Coins[rows=[20,21]]"])) == [1] * 4  # another number of items
    assert _sizes(_cells(alike[:2], ["Coins[epochs=[6,7]]"])) == [1] * 4  # another budget
    assert _sizes(_cells(alike[:2], ["Coins[probe_every=[0,2]]"])) == [1] * 4  # asked at other steps


def test_several_stages_or_no_declaration_mean_alone() -> None:
    in_stages = cells(
        protocols([f"{Path(HERE).with_name('worlds.py')}:Blobs"]), contenders([f"{HERE}:Descent"]), 4
    )
    undeclared = cells(
        protocols([f"{HERE}:Coins"]), contenders([f"{Path(HERE).with_name('worlds.py')}:Means"]), 4
    )
    assert _sizes(in_stages) == _sizes(undeclared) == [1] * 4


def test_a_cell_keeps_its_pack_whatever_is_cached(tmp_path: Path) -> None:
    todo = _cells(["Descent[rate=[0.1,0.2]]"], seeds=4)
    planned = plan(todo, Store(str(tmp_path)))
    whole = planned.packs
    assert [len(pack) for pack in whole] == [4, 4]
    cached = replace(planned, cached={todo[index].key: None for index in (0, 1, 2, 3, 6)})  # type: ignore[misc]
    assert cached.packs == [(todo[4], todo[5], todo[7])]


def test_the_plan_says_what_would_learn_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = []
    for flag in ("--together", "--no-together"):
        monkeypatch.setattr(
            "sys.argv",
            [
                "owb",
                "run",
                f"{HERE}:Descent",
                "-s",
                f"{HERE}:Coins",
                "-n",
                "5",
                "--no-bounds",
                "--plan",
                flag,
            ],
        )
        with contextlib.suppress(SystemExit):
            main()
        said += [line for line in capsys.readouterr().out.splitlines() if "cells would run" in line]
    assert said == [
        "5 of 5 cells would run (5 of them together, in 2 packs), 0 are there already",
        "5 of 5 cells would run, 0 are there already",
    ]


# --- learning -----------------------------------------------------------------------------------------------


def _member(strategy: Strategy, seed: int, folder: Path, *, corrupted: float = 0.3) -> Member:
    episode = seal(Coins(corrupted=corrupted).deal(seed), seed).episodes[0]
    settings = CellSettings(
        root_seed=learner_seed(seed),
        budget=TrainingBudget(backbone="mlp", epochs=6, batch_size=8, probe_every=2),
        needed=("classes",),
    )
    keep = folder / f"{strategy.rate}-{seed}"  # type: ignore[attr-defined]
    keep.mkdir(exist_ok=True)
    return Member(strategy=strategy, episode=episode, settings=settings, scratch=folder, keep=keep)


def test_every_member_ends_at_its_own_closed_form(tmp_path: Path) -> None:
    members = [_member(Descent(rate=rate), seed, tmp_path) for rate in (0.1, 0.5) for seed in (0, 1)]
    for one, result in zip(members, run_together(members), strict=True):
        mean = one.episode.stage.labels.mean()
        first = seeds.stream("init", seed=one.settings.root_seed, stage=0).normal()
        assert result.together == 4
        assert [answer.step for answer in result.answers] == [2, 4, 6, None]
        for answer, steps in zip(result.answers, (2, 4, 6, 6), strict=True):
            expected = mean + (first - mean) * (1 - one.strategy.rate) ** steps  # type: ignore[attr-defined]
            np.testing.assert_allclose(answer.arrays["scores"][:, 1], expected, rtol=1e-6)


def test_what_is_kept_is_not_learned_again_and_nothing_is_kept_of_a_pack_that_fails(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    first = _member(Descent(rate=0.1, mark=str(mark)), 0, tmp_path)
    run_together([first, _member(Descent(rate=0.2, mark=str(mark)), 0, tmp_path)])
    bad = _member(Descent(rate=0.3, trouble="answers"), 0, tmp_path)
    with pytest.raises(Exception, match="not finite"):
        run_together([_member(Descent(rate=0.4), 0, tmp_path), bad])
    assert not list((tmp_path / "0.4-0").iterdir())
    again = [_member(Descent(rate=rate, mark=str(mark)), 0, tmp_path) for rate in (0.1, 0.2, 0.4)]
    results = run_together(again)
    assert [result.together for result in results] == [2, 2, 1]
    assert mark.read_text().split() == ["2", "1"]
    alone = list(run_cell(Descent(rate=0.1), [first.episode], first.settings, scratch=tmp_path))
    np.testing.assert_allclose(
        results[0].answers[-1].arrays["scores"], alone[0].answers[-1].arrays["scores"], rtol=1e-6
    )


# --- the real pool ------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, warm_ray: None) -> Together:
    def run(
        todo: Sequence[Cell], *, store: str, workers: int = 2, together: bool = True, timeout_s: float = 600.0
    ) -> list[Record]:
        opened = Store(str(tmp_path / store))
        return execute(
            plan(todo, opened),
            opened,
            experiment="test",
            machine=Machine(workers=workers, object_store_mib=128, together=together),
            limits=Limits(timeout_s=timeout_s),
        )

    return run


def _assert_same(first: Sequence[Record], second: Sequence[Record], stores: Sequence[Store]) -> None:
    for one, other in zip(first, second, strict=True):
        assert (one.key, one.status, one.reason) == (other.key, other.status, other.reason)
        finite = [
            {name: value for name, value in record.metrics.items() if np.isfinite(value)}
            for record in (one, other)
        ]
        assert finite[0] == finite[1]
        for a, b in zip(
            *(store.answers(record) for store, record in zip(stores, (one, other), strict=True)), strict=True
        ):
            assert (a.stage, a.step, a.ids.tolist()) == (b.stage, b.step, b.ids.tolist())
            assert np.array_equal(a.arrays["classes"], b.arrays["classes"])
            np.testing.assert_allclose(a.arrays["scores"], b.arrays["scores"], rtol=1e-6)


def test_packs_over_protocols_and_seeds_give_the_records_of_single_cells(
    run: Together, tmp_path: Path
) -> None:
    """8 alike cells in two packs of 4, the second of which has only 2 left because the others are there
    already.
    """
    mark = tmp_path / "mark"
    todo = _cells([f"Descent[rate=[0.1,0.4],mark={mark}]"], ["Coins[corrupted=[0.0,0.3]]"], seeds=2)
    early = run(todo[6:], store="packed", workers=1)
    assert [record.together for record in early] == [1, 1]
    packed = run(todo, store="packed")
    assert sorted(mark.read_text().split()) == ["1", "1", "2", "4"]
    assert [record.together for record in Store(str(tmp_path / "packed")).records("test")] == [
        1,
        1,
        4,
        4,
        4,
        4,
        2,
        2,
    ]
    assert {record.status for record in packed} == {Status.DONE}
    assert len({record.seconds for record in packed[:4]}) == 1  # an equal share each
    assert not list((tmp_path / "packed" / "cells").iterdir())
    mark.unlink()
    single = run(todo, store="single", together=False)
    assert mark.read_text().split() == ["1"] * 8
    _assert_same(packed, single, [Store(str(tmp_path / name)) for name in ("packed", "single")])
    assert [record.together for record in single] == [1] * 8
    _assert_board(todo, Store(str(tmp_path / "packed")), tmp_path / "boards")


def _assert_board(todo: Sequence[Cell], store: Store, root: Path) -> None:
    """A board of packed cells holds, and says how many learned together and how many reached the time that
    only some do.
    """
    suite = Suite(
        scenarios=tuple(dict.fromkeys(cell.protocol.label for cell in todo)),
        strategies=tuple(dict.fromkeys(cell.contender.label for cell in todo)),
        seeds=2,
    )
    folder = publish("coins", suite, todo, store, root)
    assert check_board(folder) == []
    board = read_board(folder)
    assert sorted(cell.together for entry in board.entries for cell in entry.cells) == [
        1,
        1,
        2,
        2,
        4,
        4,
        4,
        4,
    ]
    for ranking in board.rankings():
        for row in ranking.rows:
            reached = [
                cell.metrics.get("time_to_half")
                for entry in board.entries
                if entry.label == row.strategy
                for cell in entry.cells
                if cell.scenario == ranking.scenario
            ]
            assert row.times["time_to_half"][1:] == (sum(time is not None for time in reached), 2)
    page = (folder / "README.md").read_text()
    assert "(0 of 2)" in page or "(1 of 2)" in page or "(2 of 2)" in page
    assert "Cells that learned together" in page
    assert "Kaplan-Meier" in page


def test_whatever_goes_wrong_in_a_pack_its_cells_run_again_and_the_right_one_is_blamed(
    run: Together, tmp_path: Path
) -> None:
    """For every kind of trouble four cells in two packs: a sound one with the troubled one, and two sound
    ones.
    """
    troubles = ("raises", "diverges", "answers", "dies", "sleeps")
    names = [
        f"Descent[group={trouble},rate={rate}{f',trouble={trouble}' if rate == 0.2 else ''}]"
        for trouble in troubles
        for rate in (0.1, 0.2, 0.3, 0.4)
    ]
    todo = _cells(names)
    assert _sizes(todo) == [2] * 10
    records = dict(
        zip(
            ((cell.contender.params["group"], cell.contender.params["rate"]) for cell in todo),
            run(todo, store="troubled", timeout_s=4),
            strict=True,
        )
    )
    ends = {trouble: (records[trouble, 0.2].status, records[trouble, 0.2].reason) for trouble in troubles}
    assert ends["raises"][0] is Status.FAILED
    assert ends["raises"][1].startswith("ValueError: the third step is too hard")
    assert ends["diverges"] == (Status.DIVERGED, "the weight is not finite")
    assert ends["answers"][0] is Status.DIVERGED
    assert ends["dies"] == (Status.FAILED, "its process was killed by SIGKILL, 2 times")
    assert ends["sleeps"] == (Status.TIMEOUT, "over its time limit of 4 s")
    sound = {key: record for key, record in records.items() if key[1] != 0.2}
    assert {(record.status, record.reason) for record in sound.values()} == {(Status.DONE, "")}
    assert {key[1]: record.together for key, record in sound.items()} == {0.1: 1, 0.3: 2, 0.4: 2}
    store = Store(str(tmp_path / "troubled"))
    assert {store.file(records[trouble, 0.1], "log.txt").read_text() for trouble in troubles} == {""}
    for rate in (0.1, 0.3, 0.4):  # the sound ones of all groups are the same learner on the same data
        assert len({records[trouble, rate].digest for trouble in troubles}) == 1
    assert Counter(record.status for record in store.finished([todo[0].protocol.hash]).values()) == {
        Status.DONE: 15,
        Status.DIVERGED: 2,
    }


class _OneDeal:
    """A pool that keeps what it is given and then is interrupted."""

    given: list[Any]
    environment: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: object) -> None:
        type(self).given = []

    def __enter__(self) -> _OneDeal:
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def has_room(self) -> bool:
        return len(self.given) < 2

    def publish(self, episodes: Sequence[Any]) -> list[tuple[Any, Any]]:
        return list(episodes)

    def submit(self, task: Any, episodes: Sequence[Any]) -> None:
        self.given.append((task, episodes))

    def wait(self, seconds: float) -> list[Any]:
        raise KeyboardInterrupt


def test_an_interrupted_run_has_a_row_for_every_cell_of_every_pack(
    run: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "Pool", _OneDeal)
    todo = _cells(["Descent[rate=[0.1,0.2,0.3]]"], seeds=4)
    records = run(todo, store="interrupted")
    assert [record.key for record in records] == [cell.key for cell in todo]
    assert {(record.status, record.reason) for record in records} == {
        (Status.FAILED, "interrupted; the same command continues")
    }
    tasks = [task for task, _ in _OneDeal.given]
    assert [[job.key for job in task.jobs] for task in tasks] == [
        [cell.key for cell in pack] for pack in packs(todo)[:2]
    ]
    assert [(task.timeout_s, task.memory_mib) for task in tasks] == [(4 * 600.0, 4096.0)] * 2


def test_cells_that_were_dealt_another_shape_than_expected_are_not_packed_together(
    run: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 0 has 20 items, the others 21: of the first pack (seed 0 twice, seed 1 twice) the second half
    waits for a worker of its own.
    """
    monkeypatch.setattr(execution, "Pool", _OneDeal)
    todo = _cells(["Descent[rate=[0.1,0.2]]"], ["Coins[uneven=true]"], seeds=4)
    run(todo, store="uneven")
    assert [len(task.jobs) for task, _ in _OneDeal.given] == [2, 2]
    assert [[len(episodes[0][0].ids) for episodes in given] for _, given in _OneDeal.given] == [
        [20, 20],
        [21, 21],
    ]


# --- conformance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        (Descent, ""),
        (Copycat, "100% of scores"),
        (Stranger, "`together` names speed, which is no parameter"),
        (Means, None),
    ],
)
def test_conformance_holds_learning_together_against_learning_alone(
    strategy: type[Strategy], problem: str | None
) -> None:
    found = {finding.claim: finding for finding in check_strategy(strategy, Blobs())}
    assert all(finding.holds for claim, finding in found.items() if claim != CLAIM)
    if problem is None:
        assert CLAIM not in found
    else:
        assert found[CLAIM].holds == (problem == "")
        assert problem in found[CLAIM].detail


def test_a_single_stage_is_enough_to_check_that_cells_learn_together() -> None:
    found = {finding.claim: finding.holds for finding in check_strategy(Descent, Coins())}
    assert set(found.values()) == {True}
    assert CLAIM in found
    assert "removed future stages change nothing earlier" not in found
