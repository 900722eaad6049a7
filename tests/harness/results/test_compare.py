"""`owb compare`: verdicts over one and several protocols, equivalence, and where predictions differ; from a
real store and from boards.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from runs import BLOBS, Owb, world
from scipy import stats

from harness import statistics
from harness.cell.sealing import build, seal
from harness.contracts import ClassCounts, Scenario, StoredPrediction, Truth
from harness.errors import UserError
from harness.execution.execute import Limits, execute, plan
from harness.execution.machine import Machine
from harness.protocol.cells import Cell, Protocol, cells, contenders, protocols
from harness.results.breakdown import breakdown
from harness.results.comparison import metric_of, paired_comparison
from harness.selection import configured
from harness.store.mlflow_store import Store
from harness.store.predictions import read_answers, write_answers
from harness.store.record import Record
from leaderboards.publishing.board import predictions_file, read_board
from leaderboards.publishing.matchup_on_board import on_board
from scenarios.anomaly.scenario import Anomaly

BOARDS = ROOT / "leaderboards" / "boards"
MEANS, GUESS, FAIR = world("Means"), world("Guess"), f"{world('Means')}[offset=2]"
TWINS = (MEANS, f"{MEANS}[offset=0.0001]")
SINGLE = (f"{MEANS}[offset=3]", world("Chatty"))
LARGER = f"{BLOBS}[items=30]"


@pytest.fixture
def compare(call_owb: Owb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Owb:
    """Return a function that calls `owb compare` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(call_owb, "compare")


def part_of(parts: list[dict[str, Any]], kind: str, stage: int, name: str = "") -> dict[str, Any]:
    (found,) = [part for part in parts if (part["kind"], part["stage"], part["name"]) == (kind, stage, name)]
    return found


# --- from the store -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A store and what is in it."""

    where: str
    records: list[Record]

    def figures(self, strategy: str, scenario: str) -> list[float]:
        own = {
            record.seed: record
            for record in self.records
            if (record.strategy, record.scenario) == (strategy, scenario)
        }
        return [next(iter(own[seed].metrics.values())) for seed in sorted(own)]


def _cells(scenario: str, strategies: Sequence[str], seeds: int) -> list[Cell]:
    return cells(protocols([scenario]), contenders(strategies), seeds)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, warm_ray: None) -> Ran:
    """Run all cells of this file once: two protocols with one metric, a third with another, twins, and a pair
    with one seed.
    """
    where = str(tmp_path_factory.mktemp("compare") / "store")
    store, records = Store(where), []
    blobs = [*_cells(BLOBS, (FAIR, GUESS), 3), *_cells(LARGER, (FAIR, GUESS), 4)]
    others = [
        *_cells(world("Residues"), (FAIR, GUESS), 2),
        *_cells(BLOBS, TWINS, 5),
        *_cells(BLOBS, SINGLE, 1),
    ]
    for name, todo in (("blobs", blobs), ("others", others)):
        machine = Machine(workers=1, object_store_mib=128)
        records += execute(plan(todo, store), store, experiment=name, machine=machine, limits=Limits())
    return Ran(where, records)


def test_predictions_are_counted_again_by_stage_arrival_and_class(compare: Owb, ran: Ran) -> None:
    found = compare(FAIR, GUESS, "--store", ran.where, "--name", "blobs", "--json").json[0]
    parts = found["predictions"]["parts"]
    assert found["predictions"]["measure"] == "accuracy"
    store, scenario = Store(ran.where), configured("scenario", BLOBS)

    def right(strategy: str, stage: int, classes: set[int]) -> list[float]:
        """Count by a loop over items."""
        own = {
            record.seed: record
            for record in ran.records
            if (record.strategy, record.scenario) == (strategy, BLOBS)
        }
        shares = []
        for seed in range(3):
            labels = build(scenario, seed).truth.labels
            (answer,) = [
                answer for answer in store.answers(own[seed]) if answer.stage == stage and answer.step is None
            ]
            items = zip(answer.ids, answer.arrays["classes"], strict=True)
            hits = [float(said == labels[item]) for item, said in items if int(labels[item]) in classes]
            shares.append(sum(hits) / len(hits))
        return shares

    raw = []
    for part in parts:
        classes = set(range(2 * part["stage"] + 2))
        if part["kind"] == "arrival":
            classes = {2 * int(part["name"]), 2 * int(part["name"]) + 1}
        if part["kind"] == "class":
            classes = {int(part["name"].removeprefix("class "))}
        first, second = (right(strategy, part["stage"], classes) for strategy in (FAIR, GUESS))
        expected = statistics.paired_t(first, second)
        assert (part["first"], part["second"]) == pytest.approx((np.mean(first), np.mean(second)))
        assert (part["difference"], part["low"], part["high"], part["seeds"]) == pytest.approx(
            (*expected[:3], 3)
        )
        raw.append(expected.p)
    kinds = [part["kind"] for part in parts]
    assert [kinds.count(kind) for kind in ("stage", "arrival", "class")] == [3, 2 + 3, 2 + 4 + 6]
    corrected = [*statistics.holm(raw[:3]), *statistics.holm(raw[3:8]), *statistics.holm(raw[8:])]
    assert [part["p"] for part in parts] == pytest.approx(corrected)


def test_a_verdict_has_figures_words_and_what_limits_it(compare: Owb, ran: Ran) -> None:
    where = ("--store", ran.where, "--name", "blobs", "--margin", "0.05")
    found = compare(FAIR, GUESS, *where, "--json").json[0]
    a, b = ran.figures(FAIR, BLOBS), ran.figures(GUESS, BLOBS)
    expected, equal = statistics.paired_t(a, b), statistics.two_one_sided(a, b, margin=0.05)
    assert [found[name] for name in ("difference", "low", "high", "p", "pairs")] == pytest.approx(
        list(expected)
    )
    assert found["equivalence"] == pytest.approx(equal._asdict())
    assert found["sign_flip_p"] == 0.25
    said = compare(FAIR, GUESS, *where).out
    assert (
        f"{FAIR} is better than {GUESS}: {expected.difference:+.4f} [{expected.low:+.4f}, {expected.high:+.4f}]"
        in said
    )
    assert "would be found 4 times in 5; not shown to be equivalent within 0.05: 90 % interval" in said
    assert (
        "3 pairs cannot reach two-sided 5 % by sign flips (smallest p 0.25, 6 pairs are the fewest)" in said
    )
    assert said.count("predictions (accuracy), the largest differences of 8 by stage, 12 by class:") == 2
    assert said.count("    after stage ") == 2 * 6
    assert f"{GUESS} is worse than {FAIR}" in compare(GUESS, FAIR, *where).out


def test_predictions_can_be_left_alone(compare: Owb, ran: Ran) -> None:
    where = ("--store", ran.where, "--name", "blobs", "--no-predictions")
    assert "predictions" not in compare(FAIR, GUESS, *where).out
    assert compare(FAIR, GUESS, *where, "--json").json[0]["predictions"] is None


def test_one_seed_decides_nothing_and_shows_differences_without_intervals(compare: Owb, ran: Ran) -> None:
    said = compare(*SINGLE, "--store", ran.where, "--margin", "0.1").out
    assert "cannot decide: 1 seed in common gives no spread" in said
    assert "cannot decide whether they are equivalent within 0.1" in said
    assert "sign flips" not in said
    lines = [line for line in said.splitlines() if line.startswith("    after stage ")]
    assert len(lines) == 6
    assert not any("[" in line for line in lines)


def test_twins_are_equivalent_and_no_part_differs(compare: Owb, ran: Ran) -> None:
    """Five pairs without a difference are p = 1/32 by one-sided flips."""
    said = compare(*TWINS, "--store", ran.where, "--margin", "0.01").out
    assert "cannot tell" in said
    assert "; equivalent within 0.01: 90 % interval [+0.0000, +0.0000], two one-sided t p = 0.031" in said
    assert said.endswith("    none differs\n")


def test_several_protocols_have_a_mean_with_pooled_variance_and_flips_within_each(
    compare: Owb, ran: Ran
) -> None:
    where = ("--store", ran.where, "--name", "blobs", "--no-predictions")
    *each, mean = compare(FAIR, GUESS, *where, "--json", "--margin", "0.9").json
    assert [one["scenario"] for one in each] == [BLOBS, LARGER]
    a, b = ([ran.figures(one, scenario) for scenario in (BLOBS, LARGER)] for one in (FAIR, GUESS))
    expected = statistics.pooled_paired_t(a, b)
    assert [mean[name] for name in ("difference", "low", "high", "p", "pairs")] == pytest.approx(
        list(expected)
    )
    assert mean["pairs"] == 7
    assert mean["sign_flip_p"] == 2 / 2**7
    assert (mean["scenario"], mean["scenarios"], mean["protocol"]) == (
        "mean over 2 scenarios",
        [BLOBS, LARGER],
        "",
    )
    assert mean["equivalence"] == pytest.approx(
        statistics.two_one_sided_within_strata(a, b, margin=0.9)._asdict()
    )
    said = compare(FAIR, GUESS, *where).out
    assert "mean over 2 scenarios, unscaled\n" in said
    assert "sign flips, which take nothing for granted, give p = 0.016" in said


def test_metrics_of_different_names_have_no_mean(compare: Owb, ran: Ran) -> None:
    where = ("--store", ran.where, "--no-predictions")
    said = (
        "no mean over scenarios, which are compared by average_accuracy, accuracy: choose one that all "
        "have by --metric\n"
    )
    assert compare(FAIR, GUESS, *where).out.endswith(said)
    assert len(compare(FAIR, GUESS, *where, "--json").json) == 3


def test_predictions_of_a_scenario_that_changed_are_not_compared(
    compare: Owb, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--store", ran.where, "--name", "others", "--json")
    before = compare(*TWINS, *where).json[0]
    monkeypatch.setattr(Protocol, "hash", "0" * 64)
    (found,) = compare(*TWINS, *where).json
    assert found["predictions"] == {
        "measure": "",
        "parts": [],
        "problem": f"this installation deals {BLOBS} otherwise than when it was run",
    }
    assert found["difference"] == before["difference"]


def test_strategies_that_are_not_there_or_never_met_are_told_so(compare: Owb, ran: Ran) -> None:
    said = compare(f"{GUESS}s", FAIR, "--store", ran.where, "--name", "blobs")
    assert (
        said.err
        == f"error: unknown strategy with finished cells '{GUESS}s'; did you mean {GUESS!r}? (all: owb show blobs)\n"
    )
    said = compare(TWINS[0], GUESS, "--store", ran.where, "--name", "others")
    assert said.err == f"error: {TWINS[0]} and {GUESS} have no protocol in common in 'others'\n"


# --- on a board ---------------------------------------------------------------------------------------------


def test_a_board_is_compared_on_from_its_own_files(compare: Owb) -> None:
    found = compare(
        "replay", "ewc", "--board", "class-incremental", "--root", str(BOARDS), "--json", "--no-predictions"
    ).json
    board = read_board(BOARDS / "class-incremental")
    cells = {
        entry.label: [cell for cell in entry.done if "digits" in cell.scenario] for entry in board.entries
    }
    a, b = ([cell.metrics["average_accuracy"] for cell in cells[one]] for one in ("replay", "ewc"))
    assert [found[0][name] for name in ("difference", "low", "high", "p", "pairs")] == pytest.approx(
        list(statistics.paired_t(a, b))
    )
    assert [one["scenario"] for one in found[:-1]] == [protocol.label for protocol in board.header.protocols]
    assert found[-1]["scenarios"] == [protocol.label for protocol in board.header.protocols]
    assert all(
        one["protocol"] == protocol.hash for one, protocol in zip(found, board.header.protocols, strict=False)
    )
    (forgetting, *_) = compare(
        "replay",
        "ewc",
        "--board",
        "class-incremental",
        "--root",
        str(BOARDS),
        "-m",
        "forgetting",
        "--no-predictions",
    ).out.splitlines()[1:]
    assert forgetting.strip().startswith("replay is better than ewc: -")


def test_on_a_board_the_test_that_is_corrected_over_its_pairs_decides() -> None:
    """Alone the pair differs at 0.006; among 120 pairs of 16 contenders it does not, nor by the letters."""
    matchup = on_board(BOARDS / "noisy-labels", ("elr-plus", "elr"))[0]
    found = paired_comparison(matchup, metric_of(matchup.metrics, "", matchup.label))
    assert found is not None
    ranking = read_board(BOARDS / "noisy-labels").rankings()[0]
    row = next(row for row in ranking.rows if row.strategy == "elr")
    assert ranking.best == "elr-plus"
    assert row.versus_best is not None
    assert found.p < 0.01
    assert found.p_holm == pytest.approx(row.versus_best.p)
    assert found.words.startswith("cannot tell elr-plus and elr apart: +0.0207")
    assert "p = 0.14 by Holm over 120 pairs of strategies, which decides" in found.words


def test_a_bound_is_compared_among_the_contenders_of_its_board() -> None:
    """Nested dropout and the lower bound: 16 contenders and one bound are 136 pairs."""
    matchup = on_board(BOARDS / "noisy-labels", ("nested-dropout", "cross-entropy"))[0]
    found = paired_comparison(matchup, metric_of(matchup.metrics, "", matchup.label))
    assert found is not None
    figures = {
        label: [cells[seed]["tail_accuracy"] for seed in range(5)] for label, cells in matchup.field.items()
    }
    assert len(figures) == 17
    raw = {
        pair: stats.ttest_rel(figures[pair[0]], figures[pair[1]]).pvalue
        for pair in itertools.combinations(figures, 2)
    }
    corrected = dict(zip(raw, statistics.holm(list(raw.values())), strict=True))
    pair = next(pair for pair in raw if set(pair) == {"nested-dropout", "cross-entropy"})
    assert found.p_holm == pytest.approx(corrected[pair])
    assert found.words.startswith("nested-dropout is better than cross-entropy")


def test_classes_are_those_of_the_data_set_whatever_their_place_in_the_order_of_arrival() -> None:
    """Every digit is asked after the last stage under every seed, and once per stage under those where it
    came.
    """
    matchup = next(
        one for one in on_board(BOARDS / "class-incremental", ("replay", "ewc")) if "digits" in one.label
    )
    found = breakdown(matchup)
    last = [part for part in found.parts if part.kind == "class" and part.stage == 4]
    assert [part.name for part in last] == [f"class {digit}" for digit in range(10)]
    assert all(part.seeds == 5 for part in last)
    first = [part for part in found.parts if part.kind == "class" and part.stage == 0]
    assert sum(part.seeds for part in first) == 2 * 5
    by_stage, by_class = found.largest(2)
    assert [abs(part.difference) for part in by_class] == sorted(
        (abs(part.difference) for part in last), reverse=True
    )[:2]
    assert {part.kind for part in by_stage} <= {"stage", "arrival"}


def test_predictions_that_do_not_fit_are_said_and_the_figures_stand(compare: Owb, tmp_path: Path) -> None:
    shutil.copytree(BOARDS / "ncd-alpha", tmp_path / "boards" / "ncd-alpha")
    board = read_board(tmp_path / "boards" / "ncd-alpha")
    entry = next(entry for entry in board.entries if entry.label == "cr-kd[alpha=0.02]")
    path = tmp_path / "boards" / "ncd-alpha" / predictions_file(entry, entry.done[0])
    args = ("cr-kd[alpha=0.02]", "uno[overcluster=0]", "--board", "ncd-alpha", "--root", "boards")
    whole = compare(*args, "--json").json[0]
    assert whole["predictions"]["problem"] == ""
    answers = read_answers(path)
    write_answers(
        path,
        [
            StoredPrediction(stage=one.stage, step=one.step, ids=one.ids + 1, arrays=one.arrays)
            for one in answers
        ],
    )
    (found,) = compare(*args, "--json").json
    assert (
        found["predictions"]["problem"]
        == "the ids in the predictions of stage 0 on ncd[preset=digits] are not those of the query"
    )
    assert found["difference"] == whole["difference"]
    path.write_bytes(b"no predictions")
    assert f"predictions are not compared: cannot read predictions in {path.name}" in compare(*args).out


WRONG = {
    "replay ewc --board class-incrementl": "unknown board 'class-incrementl'; did you mean 'class-incremental'?",
    "replya ewc --board class-incremental": "unknown strategy with finished cells 'replya'; did you mean 'replay'? "
    "(all: owb board show class-incremental)",
    "replay ewc --board class-incremental -m forgeting": "unknown metric 'forgeting'; did you mean 'forgetting'?",
    "replay replay --board class-incremental": "replay would be compared with itself: name two strategies",
    "replay ewc --board class-incremental --name demo": (
        "--name looks in the store and --board on a board: give one of them"
    ),
    "replay ewc --board class-incremental --margin -1": "--margin must be above 0, got -1",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_input_gets_one_sentence(line: str, compare: Owb) -> None:
    said = compare(*line.split(), "--root", str(BOARDS))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"error: {WRONG[line]}")


def test_a_folder_without_boards_is_named(compare: Owb) -> None:
    assert (
        compare("a", "b", "--board", "mine", "--root", "nowhere").err
        == "error: there are no boards in nowhere\n"
    )


def test_a_time_that_may_not_be_reached_is_refused() -> None:
    (matchup,) = on_board(BOARDS / "grokking-numerics", ("constant", "perp-grad"))
    censored = next(metric.name for metric in matchup.metrics if metric.censored)
    with pytest.raises(UserError, match="is a time that may not be reached"):
        metric_of(matchup.metrics, censored, matchup.label)
    assert paired_comparison(matchup, metric_of(matchup.metrics, "", matchup.label)) is not None


# --- what counts as right -----------------------------------------------------------------------------------


def marks_of(
    board: str, label: str, scenario_part: str = ""
) -> tuple[Scenario, list[StoredPrediction], Any, list[ClassCounts]]:
    """Return the marks of the first cell of a strategy on a committed board, with what they are made from."""
    folder = BOARDS / board
    entry = next(entry for entry in read_board(folder).entries if entry.label == label)
    cell = next(cell for cell in entry.done if scenario_part in cell.scenario)
    scenario = configured("scenario", cell.scenario)
    deal = scenario.deal(cell.seed)
    truth = seal(deal, cell.seed).truth
    answers = read_answers(folder / predictions_file(entry, cell))
    ended = [answer for answer in answers if answer.step is None]
    names = tuple(f"class {number}" for number in range(int(deal.labels.max()) + 1))
    return scenario, answers, truth, scenario.correct_by_class(truth, ended, names)


def share(mark: ClassCounts, arrival: int | None = None) -> float:
    own = np.ones(len(mark.n_items), dtype=bool) if arrival is None else mark.arrival == arrival
    return float(mark.right[own].sum() / mark.n_items[own].sum())


@pytest.mark.parametrize(
    ("board", "label", "part"),
    [
        ("class-incremental", "replay", "chars47"),
        ("cgcd", "happy", "chars47"),
        ("cgcd-unknown-k", "happy", ""),
    ],
)
def test_shares_by_arrival_are_the_scenarios_accuracy_matrix(board: str, label: str, part: str) -> None:
    scenario, answers, truth, marks = marks_of(board, label, part)
    matrix = scenario.score(truth, answers).matrices["accuracy"]
    for mark in marks:
        for arrival in range(mark.stage + 1):
            assert share(mark, arrival) == pytest.approx(matrix[mark.stage, arrival])
        come = mark.n_items > 0
        assert set(mark.arrival[come]) == set(range(mark.stage + 1))


def test_shares_in_novel_class_discovery_are_those_of_the_strict_reading() -> None:
    scenario, answers, truth, marks = marks_of("ncd-alpha", "uno[overcluster=0]")
    scores = scenario.score(truth, answers)
    assert [share(mark) for mark in marks] == pytest.approx(
        [scores.per_stage["known_strict"][0], scores.final["all_strict"]]
    )
    assert share(marks[1], 1) == pytest.approx(scores.final["novel_strict"])


def test_shares_under_wrong_labels_and_in_grokking_are_of_test_items() -> None:
    scenario, answers, truth, marks = marks_of("noisy-stream", "replay")
    assert [share(mark) for mark in marks] == pytest.approx(
        scenario.score(truth, answers).per_stage["accuracy"]
    )
    scenario, answers, truth, marks = marks_of("grokking-numerics", "perp-grad")
    assert share(marks[-1]) == pytest.approx(scenario.score(truth, answers).final["test_accuracy"])


@pytest.mark.parametrize("setting", ["multi", "continual"])
def test_shares_in_anomaly_detection_are_areas_by_category(setting: str) -> None:
    scenario = Anomaly(setting=setting, size=16, n_train=2, n_good=5, n_bad=5)  # type: ignore[arg-type]
    sealed = build(scenario, 0)
    rng = np.random.default_rng(0)
    answers = []
    for stage, episode in enumerate(sealed.episodes):
        ids = np.sort(episode.query.ids)
        answers.append(
            StoredPrediction(
                stage=stage, step=None, ids=ids, arrays={"anomaly_scores": rng.normal(size=len(ids))}
            )
        )
    marks = scenario.correct_by_class(sealed.truth, answers, ())
    answer, mark = answers[-1], marks[-1]
    assert len(marks) == (len(answers) if setting == "continual" else 1)
    assert mark.stage == answers[-1].stage
    names = sorted(mark.classes)
    for place, name in enumerate(mark.classes):
        own = sealed.truth.facts["category"][answer.ids] == names.index(name)
        values, strange = (
            answer.arrays["anomaly_scores"][own],
            sealed.truth.facts["anomalous"][answer.ids][own],
        )
        pairs = [float(x > y) for x in values[strange] for y in values[~strange]]
        assert mark.right[place] / mark.n_items[place] == pytest.approx(np.mean(pairs))


def test_a_scenario_without_classes_cannot_be_compared_by_them() -> None:
    class Other(type(configured("scenario", BLOBS))):  # type: ignore[misc]
        answers = ("anomaly_scores",)

    with pytest.raises(UserError, match="Other asks for anomaly_scores, not for classes"):
        Other().correct_by_class(Truth(labels=np.zeros(0, np.int64), facts={}, named_classes=[2]), [], ())
