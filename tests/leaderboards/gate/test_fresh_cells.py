"""Seeds that are known, figures that are raised, failures that are claimed: each is refused with its sentence, and
chance refuses fewer than 1 honest submission of 200.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import forgeries
import numpy as np
import pytest
from asking import Said, Verify, asked
from forgeries import World, copies, problems_of, stages_that_refuse
from knowing_worlds import SCENARIOS, SEEDS, SORTED, knowing_world

from harness.cell.run import learner_seed
from harness.sandbox.scan import scan
from harness.seeds import stream
from harness.selection import configured
from harness.statistics import rank_sum, rank_sum_by_wins, rank_sum_within_strata, smallest_rank_sum_p
from harness.store.predictions import read_answers, write_answers
from leaderboards.gate import fresh, rerun
from leaderboards.gate.case import Case
from leaderboards.gate.form import form
from leaderboards.gate.fresh import Plan, fresh_seed
from leaderboards.gate.rerun import drawn, sign_test
from leaderboards.gate.schema import schema
from leaderboards.publishing.rescore import eval_set_of


@pytest.fixture(scope="module")
def known() -> World:
    return knowing_world()


def case_of(folder: Path, boards: Path) -> Case:
    case = schema(folder, boards, form(folder).sound).case
    assert case is not None
    return case


# --- seeds that are known -----------------------------------------------------------------------------------


def test_a_strategy_that_rebuilds_the_seed_is_refused_and_nothing_else_gives_it_away(known: World) -> None:
    folder = known.submissions["knowing"]
    assert scan((folder / "strategy.py").read_text(), "strategy.py") == []
    said = asked(folder, known.boards, "--salt", "a salt")
    assert said.code == 3
    (problem,) = said.report["stages"][8]["problems"]
    assert re.fullmatch(
        re.escape(SORTED)
        + r": its figures are those of seeds that it knows: average_accuracy 1 as submitted, "
        r"0\.\d+ under 13 fresh seeds \(rank-sum p 0\.00012\)",
        problem,
    )


@pytest.mark.slow
def test_a_strategy_that_keeps_what_the_seeds_of_the_board_draw_is_refused_too(
    known: World, tmp_path: Path
) -> None:
    """It tries none out, and answers the same bytes as the one that does."""
    folder = copies(known.submissions["knowing"], tmp_path / "keeping")
    kept = {
        int(stream("any", seed=learner_seed(seed), stage=stage).integers(2**62)): seed
        for seed in range(SEEDS)
        for stage in (0, 1)
    }
    text = (folder / "strategy.py").read_text()
    tries = re.search(r"        for seed in range\(300\):\n.*\n.*:\n", text)
    assert tries is not None
    looks = "        for seed in [KEPT[drawn]] if drawn in KEPT else []:\n            if True:\n"
    (folder / "strategy.py").write_text(f"{text.replace(tries[0], looks)}\n\nKEPT = {kept}\n")
    forgeries.rekey(folder, known.board)
    said = asked(folder, known.boards, "--salt", "a salt")
    assert said.code == 3
    (problem,) = problems_of(said.report)
    assert problem.startswith(f"{SORTED}: its figures are those of seeds that it knows")


def test_the_honest_source_of_it_passes_and_its_report_can_be_repeated(known: World) -> None:
    said = asked(known.submissions["first"], known.boards)
    assert (said.code, list(problems_of(said.report))) == (0, [])
    notes = said.report["stages"][8]["notes"]
    seeds = [int(seed) for note in notes for seed in re.findall(r"\b\d{19}\b", note)]
    assert len(seeds) >= len(SCENARIOS)
    assert all(2**62 <= seed < 2**63 for seed in seeds)
    case = case_of(known.submissions["first"], known.boards)
    assert seeds[0] == fresh_seed(case, said.report["salt"], SCENARIOS[0], 0)
    first = drawn(case, said.report["salt"], 2).done[0]
    assert notes[0] == f"run again: {first.scenario} | seed {first.seed}"


def test_what_is_drawn_cannot_be_known_before_the_gate_runs(gate: Verify, folder: Path) -> None:
    forgeries.edited_metric(folder)
    salts = [gate(folder).report["salt"] for _ in range(2)]
    assert all(re.fullmatch("[0-9a-f]{32}", salt) for salt in salts)
    assert salts[0] != salts[1]
    assert gate(folder, "--salt", "mine").report["salt"] == "mine"


@pytest.mark.parametrize(
    "label",
    [
        *SCENARIOS,
        "cgcd",
        "ncd",
        "noisy-labels",
        "grokking[preset=tiny]",
        "anomaly[setting=continual,n_train=12]",
    ],
)
def test_every_scenario_deals_under_the_largest_seed(label: str) -> None:
    scenario = configured("scenario", label)
    assert len(eval_set_of(scenario, 2**63 - 1).test_ids) == len(scenario.deal(0).stages)


# --- figures that are raised --------------------------------------------------------------------------------


def raised(folder: Path, board: Path, share: float) -> None:
    """Put as many of the last answers right as raise the average accuracy by `share`; everything fits."""
    for path in (folder / "predictions").iterdir():
        seed = int(path.stem.rpartition("-")[2])
        label = next(each for each in SCENARIOS if ("mnist5k" in each) == ("mnist5k" in path.name))
        truth = eval_set_of(configured("scenario", label), seed).truth
        *early, last = read_answers(path)
        classes, labels = last.arrays["classes"].copy(), truth.labels[last.ids]
        wrong = np.flatnonzero(classes != labels)[: round(share * len(classes))]
        classes[wrong] = labels[wrong]
        write_answers(path, [*early, replace(last, arrays={**last.arrays, "classes": classes})])
    forgeries.rescore(folder, board)


def test_figures_that_are_all_raised_within_the_tolerance_are_refused_by_their_sign(
    known: World, tmp_path: Path
) -> None:
    folder = copies(known.submissions["first"], tmp_path / "raised")
    raised(folder, known.board, 0.011)
    said = asked(folder, known.boards, "--salt", "a salt")
    assert (said.code, stages_that_refuse(said.report)) == (3, ["re-run"])
    (problem,) = problems_of(said.report)
    assert re.fullmatch(
        r"10 of 10 cells that differ from their run again are better in the submission, by 0\.01\d+ on average "
        r"\(sign test p 0\.001\): float sums differ both ways",
        problem,
    )


def test_the_sign_test_by_hand() -> None:
    """1 of 2^10; 10 + 1 of 2^10; and cells of the same bytes count for neither side."""
    assert sign_test([0.01] * 10) == 1 / 1024
    assert sign_test([0.01] * 9 + [-0.02]) == 11 / 1024
    assert sign_test([0.0] * 10) == 1.0
    assert sign_test([0.0] * 10 + [0.01]) == 0.5


# --- failures that are claimed ------------------------------------------------------------------------------


def claimed(folder: Path, status: str, seed: int) -> None:
    """Say that a cell ended otherwise than done."""
    forgeries.predictions(folder, seed).unlink()

    def change(entry: dict[str, Any]) -> None:
        entry["cells"][seed] |= {"status": status, "reason": "as it is said", "metrics": {}, "digest": ""}

    forgeries.edit(folder / "entry.yaml", change)
    forgeries.sign(folder)


CLAIMS = {
    "timeout": " in less than 0.25 of the time that it may take",
    "out of memory": " with 0.5 of the memory that it may take",
    "failed": "",
    "diverged": "",
    "skipped": "",
}


@pytest.mark.parametrize("status", CLAIMS)
def test_a_worst_seed_that_is_said_to_have_failed_is_run_again_first(
    made: World, folder: Path, status: str
) -> None:
    claimed(folder, status, 1)
    case = case_of(folder, made.boards)
    order = drawn(case, "any", 1)
    assert [cell.seed for cell in order.failed] == [1]
    problems = list(rerun.rerun(case, order._replace(done=[]), 0, lambda _: None))
    assert problems == [
        f"{forgeries.SCENARIO} | seed 1: ended as {status} in the submission, but run again it is done{CLAIMS[status]}"
    ]


def test_a_claimed_failure_is_refused_by_the_gate_whatever_the_salt(gate: Verify, folder: Path) -> None:
    claimed(folder, "timeout", 2)
    said: Said = gate(folder)
    assert (said.code, stages_that_refuse(said.report)) == (3, ["re-run"])
    (problem,) = problems_of(said.report)
    assert "seed 2: ended as timeout in the submission, but run again it is done in less than" in problem


def test_a_cell_that_fails_again_is_an_honest_row(made: World) -> None:
    case = case_of(made.submissions["clumsy"], made.boards)
    order = drawn(case, "any", 5)
    assert len(order.failed) == sum(cell.status == "failed" for cell in case.entry.cells) > 0
    assert list(rerun.rerun(case, order._replace(done=[]), 0, lambda _: None)) == []


# --- how rarely chance refuses ------------------------------------------------------------------------------


def test_an_honest_submission_is_refused_in_less_than_1_of_200_verifications() -> None:
    """In closed form: under every number of seeds and scenarios, the largest p that refuses is not above its level."""
    for seeds in range(1, 11):
        for scenarios in (1, 2, 4, 8, 24):
            plan = Plan.of(seeds, scenarios)
            reached = rank_sum_by_wins(seeds, plan.fresh)
            refusing = reached[reached <= plan.level]
            assert len(refusing) > 0 or not plan.decides
            assert scenarios * refusing.max(initial=0) <= fresh.LEVEL
    assert fresh.LEVEL + rerun.LEVEL < 1 / 200


HONEST: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "of few values": lambda rng, size: rng.integers(0, 3, size).astype(float),
    "failing at times": lambda rng, size: np.where(
        rng.random(size) < 0.3, -np.inf, rng.standard_normal(size)
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_simulated_honest_submissions_are_refused_no_more_often(name: str) -> None:
    """3,000 scenarios of a level of 1/50 in place of 1/1000, so that there is something to count."""
    plan = replace(Plan.of(5, 1), fresh=5, level=1 / 50)
    rng = np.random.default_rng(7)
    figures = HONEST[name](rng, (3000, 10))
    refused = sum(went(plan, row[:5], row[5:]) for row in figures)
    assert refused / 3000 <= 1 / 50 + 3 * (0.02 / 3000) ** 0.5
    if name == "normal":
        assert plan.outcomes(figures[:, :5], figures[:, 5:])[0].sum() == refused


def went(plan: Plan, submitted: Sequence[float], again: Sequence[float]) -> bool:
    """Go through the cells as the gate does; say whether they refuse."""
    count, p = 0, 0.0
    while not count or plan.goes_on(p, count):
        count += 1
        p = rank_sum(submitted, again[:count])
    return plan.refuses(p, count)


def test_series_apart_are_always_refused_and_what_a_forger_gains_is_found_with_the_power_stated() -> None:
    plan = Plan.of(5, 4)
    assert went(plan, [1.0] * 5, np.linspace(0.90, 0.96, plan.fresh).tolist())
    assert smallest_rank_sum_p(5, plan.fresh) <= plan.level / 4
    draws = np.random.default_rng(2).standard_normal((2000, 5 + plan.fresh))
    best = (
        np.random.default_rng(3).standard_normal((2000, 5, 200)).max(axis=2)
    )  # of 200 draws under each seed
    assert fresh.power(plan, 0.0) <= plan.level
    assert fresh.power(plan, 3.0) == pytest.approx(0.76, abs=0.03)
    assert plan.outcomes(best, draws[:, 5:])[0].mean() > 0.9


def test_a_board_with_easy_seeds_refuses_nobody_by_them() -> None:
    """Deals that are 5 standard deviations easier pass for known seeds, and are as they are under other seeds: of
    2,000 honest submissions 1 of 27 reaches the smallest p of three deals run twice again.
    """
    rng = np.random.default_rng(4)
    plan = Plan.of(3, 1)
    easy = rng.standard_normal((2000, 3)) + 5
    assert plan.outcomes(easy, rng.standard_normal((2000, plan.fresh)))[0].mean() > 0.95
    again = rng.standard_normal((2000, 3, 2)) + 5
    refused = [
        rank_sum_within_strata([([value], other) for value, other in zip(*one, strict=True)]) <= 1 / 27 + 1e-9
        for one in zip(easy, again, strict=True)
    ]
    assert np.mean(refused) == pytest.approx(1 / 27, abs=0.013)


def test_a_board_of_one_seed_is_told_to_be_too_small() -> None:
    assert not Plan.of(1, 1).decides
    assert Plan.of(2, 1).decides


def test_failed_fresh_cells_count_as_worst() -> None:
    """A strategy that fails where it does not know the seed has nothing of it."""
    plan = Plan.of(SEEDS, len(SCENARIOS))
    assert went(plan, [0.8, 0.81, 0.79, 0.8, 0.82], [-np.inf] * plan.fresh)
