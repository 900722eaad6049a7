"""Rankings say who is better only where the figures do, and show everything else beside it."""

from __future__ import annotations

import csv
import doctest
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from together_worlds import HERE

from harness.contracts import Metric, Status
from harness.errors import UserError
from harness.protocol.cells import protocols
from harness.results import tables
from harness.results.aggregate import aggregate
from harness.results.comparison import metric_of
from harness.results.ranking import Ranking, Row, by_protocol, rank, rankings
from harness.results.tables import (
    aggregate_table,
    csv_text,
    failures_table,
    figure,
    figures_table,
    json_ready,
    markdown,
    ranking_notes,
    ranking_table,
    scale,
)
from harness.statistics import Comparison, Interval, holm
from harness.store.record import Record

ACCURACY = Metric(name="accuracy")
FORGETTING = Metric(name="forgetting", better="lower")
NAN = math.nan

SOUND: dict[str, list[float]] = {
    "fine-tune": [0.20, 0.21, 0.19, 0.20, 0.22],
    "joint": [0.95, 0.96, 0.95, 0.94, 0.96],
    "replay": [0.80, 0.82, 0.81, 0.79, 0.83],
    "der": [0.81, 0.81, 0.82, 0.78, 0.83],
    "ewc": [0.30, 0.33, 0.29, 0.31, 0.28],
}


def _records(
    figures: Mapping[str, Sequence[float]],
    *,
    protocol: str = "p",
    scenario: str = "digits",
    metric: str = "accuracy",
) -> list[Record]:
    """Return one record per figure; NaN stands for a cell that timed out."""
    return [
        Record(
            key=f"{protocol}{label}{seed}",
            run_id="",
            protocol_hash=protocol,
            scenario=scenario,
            strategy=label,
            seed=seed,
            status=Status.TIMEOUT if math.isnan(value) else Status.DONE,
            reason="took more than 5 s" if math.isnan(value) else "",
            metrics={} if math.isnan(value) else {metric: value, "forgetting": 1 - value},
            seconds=10.0 + seed,
            peak_mib=100.0 + seed,
        )
        for label, values in figures.items()
        for seed, value in enumerate(values)
    ]


def _rank(
    figures: Mapping[str, Sequence[float]],
    *,
    metrics: Sequence[Metric] = (ACCURACY, FORGETTING),
    **where: str,
) -> Ranking:
    return rank(_records(figures, **where), metrics=metrics, lower_bound="fine-tune", upper_bound="joint")


def _row(ranking: Ranking, label: str) -> Row:
    return next(row for row in ranking.rows if row.strategy == label)


def _places(ranking: Ranking) -> dict[str, str]:
    return {row.strategy: row.place for row in ranking.rows}


# --- places -------------------------------------------------------------------------------------------------


def test_places_are_what_the_test_leaves_open_and_bounds_have_none() -> None:
    assert _places(_rank(SOUND)) == {"der": "1-2", "replay": "1-2", "ewc": "3", "joint": "", "fine-tune": ""}


def test_nobody_shares_letter_or_place_with_one_it_differs_from() -> None:
    """The noisy third is not told from the leader, the second is: it once shared the first place with both."""
    noise = np.array([0.01, -0.02, 0.00, 0.015, -0.005])
    ranking = _rank(
        {
            "leader": list(0.90 + noise),
            "steady": list(0.85 + noise + noise[::-1] * 0.01),
            "noisy": list(0.84 + 20 * noise[::-1]),
            "far": list(0.1 + noise[::-1]),
        }
    )
    compared = {row.strategy: row.versus_best.p for row in ranking.rows if row.versus_best}
    assert compared["steady"] < 0.05 < compared["noisy"]
    assert [(row.strategy, row.place, row.letters) for row in ranking.rows] == [
        ("leader", "1-2", ("a",)),
        ("steady", "2-3", ("b",)),
        ("noisy", "1-3", ("a", "b")),
        ("far", "4", ("c",)),
    ]
    assert ranking.leaders == ("leader", "noisy")


def test_lower_is_better_where_the_metric_says_so() -> None:
    ranking = _rank(SOUND, metrics=[FORGETTING])
    assert list(_places(ranking)) == ["der", "replay", "ewc", "joint", "fine-tune"]
    assert next(iter(_places(_rank(SOUND, metrics=[replace(FORGETTING, better="higher")])))) == "ewc"


def test_a_contender_that_lacks_seeds_comes_after_the_complete_ones_and_is_marked() -> None:
    """The two that failed on a seed would lead by the seeds they have."""
    ranking = _rank(
        {
            **SOUND,
            "lucky": [0.99, 0.99, NAN, 0.98, 0.99],
            "luckier": [0.99, NAN, NAN, 0.99, 0.99],
            "hopeless": [NAN] * 5,
        }
    )
    places = _places(ranking)
    assert list(places) == ["der", "replay", "ewc", "luckier", "lucky", "hopeless", "joint", "fine-tune"]
    assert (places["luckier"], places["lucky"], places["hopeless"]) == ("4-5*", "4-5*", "-")
    assert [row.letters for row in ranking.rows] == [("a",), ("a",), ("b",), (), (), (), (), ()]
    assert (_row(ranking, "lucky").seeds, _row(ranking, "lucky").lacking) == ((0, 1, 3, 4), (2,))
    assert any(note.startswith("* lacks seeds") for note in ranking.notes)


def test_a_seed_that_was_never_run_counts_as_lacking() -> None:
    ranking = _rank({**SOUND, "short": [0.99, 0.98, 0.99]})
    assert _row(ranking, "short").lacking == (3, 4)
    assert _row(ranking, "short").failures == ()
    assert _places(ranking)["short"] == "4*"


def test_failures_keep_their_status_and_reason() -> None:
    ranking = _rank({**SOUND, "slow": [0.5, NAN, 0.5, 0.5, 0.5]})
    assert [(each.seed, each.status, each.reason) for each in _row(ranking, "slow").failures] == [
        (1, Status.TIMEOUT, "took more than 5 s")
    ]
    assert failures_table([ranking]).rows == [["digits", "slow", "1", "timeout", "took more than 5 s"]]


def test_a_done_cell_without_the_primary_figure_is_a_failure() -> None:
    records = [
        replace(record, metrics={}) if record.strategy == "der" and record.seed == 0 else record
        for record in _records(SOUND)
    ]
    row = _row(rank(records, metrics=[ACCURACY], lower_bound="fine-tune", upper_bound="joint"), "der")
    assert (row.place, row.failures[0].reason) == ("3*", "no figure for accuracy")


def test_one_seed_cannot_decide() -> None:
    ranking = _rank({label: values[:1] for label, values in SOUND.items()})
    assert set(_places(ranking).values()) == {"?", ""}
    assert {row.letters for row in ranking.rows} == {()}
    assert ranking.leaders == ()
    assert any(note.startswith("cannot decide with one seed") for note in ranking.notes)
    assert [figure(row.intervals["accuracy"], 100) for row in ranking.rows[:2]] == ["81.0", "80.0"]
    compared = _row(ranking, "ewc").versus_best
    assert compared is not None
    assert math.isnan(compared.p)
    assert math.isnan(ranking.minimum_detectable)


def test_few_seeds_say_what_they_rest_on() -> None:
    assert any(
        "5 seeds cannot reach two-sided 5 % by sign flips (smallest p 0.0625)" in note
        for note in _rank(SOUND).notes
    )
    assert not _rank({label: [*values, values[0] + 0.001] for label, values in SOUND.items()}).notes


def test_a_contender_alone_is_first() -> None:
    assert _places(_rank({"replay": [0.8], "joint": [0.9]}))["replay"] == "1"
    assert _rank({"joint": [0.9], "fine-tune": [0.1]}).best is None


def test_figures_in_a_table_of_their_own_have_the_rows_of_the_ranking_and_the_metrics_named() -> None:
    ranking = _rank({"a": [0.5, 0.7], "b": [0.1, 0.3]})
    table = tables.figures_table(ranking, metrics=[FORGETTING.name])
    assert [row[0] for row in table.rows] == [row.strategy for row in ranking.rows]
    assert len(table.header) == 2
    assert table.header[1].startswith("forgetting")


@given(st.permutations(_records({**SOUND, "slow": [0.5, NAN, 0.5, 0.5, 0.5]})))
def test_the_order_of_records_changes_nothing(records: list[Record]) -> None:
    expected = _rank({**SOUND, "slow": [0.5, NAN, 0.5, 0.5, 0.5]})
    assert json_ready(
        rank(records, metrics=[ACCURACY, FORGETTING], lower_bound="fine-tune", upper_bound="joint")
    ) == json_ready(expected)


@given(st.permutations(range(5)))
def test_renumbering_the_seeds_changes_no_statistic(order: list[int]) -> None:
    once, again = (
        _rank(SOUND),
        _rank({label: [values[seed] for seed in order] for label, values in SOUND.items()}),
    )
    assert _places(once) == _places(again)
    for row in once.rows:
        assert _row(again, row.strategy).intervals["accuracy"] == pytest.approx(row.intervals["accuracy"])


# --- comparisons --------------------------------------------------------------------------------------------


def test_comparisons_with_the_best_are_paired_and_corrected() -> None:
    ranking = _rank(SOUND)
    pairs = [("der", "replay"), ("der", "ewc"), ("replay", "ewc")]
    corrected = holm([stats.ttest_rel(SOUND[a], SOUND[b]).pvalue for a, b in pairs])
    for label, p in zip(["replay", "ewc"], corrected, strict=False):
        compared = _row(ranking, label).versus_best
        assert compared is not None
        assert compared.difference == pytest.approx(np.mean(SOUND[label]) - np.mean(SOUND["der"]))
        assert compared.p == pytest.approx(p)
    assert _row(ranking, "der").versus_best is None


def test_who_lacks_seeds_is_compared_over_common_seeds_without_a_test() -> None:
    compared = _row(_rank({**SOUND, "half": [0.7, NAN, 0.7, NAN, 0.72]}), "half").versus_best
    assert compared is not None
    assert (compared.difference, compared.pairs) == (
        pytest.approx(np.mean([0.7 - 0.81, 0.7 - 0.82, 0.72 - 0.83])),
        3,
    )
    assert math.isnan(compared.p)


def test_cost_is_the_mean_time_of_done_cells_and_the_largest_memory_of_all() -> None:
    row = _row(_rank({**SOUND, "slow": [0.5, NAN, 0.5, 0.5, NAN]}), "slow")
    assert (row.seconds, row.peak_mib) == (pytest.approx((10 + 12 + 13) / 3), 104.0)


@pytest.mark.parametrize("field", ["session", "environment"])
def test_costs_in_a_column_are_of_one_run_or_at_least_of_one_machine(field: str) -> None:
    records = [
        replace(record, **{field: "quiet" if record.strategy != "slow" or record.seed < 2 else "busy"})
        for record in _records({**SOUND, "slow": [0.5] * 5})
    ]
    records += [replace(record, **{field: "busy"}) for record in _records({"elsewhere": [0.6] * 5})]
    ranking = rank(records, metrics=[ACCURACY], lower_bound="fine-tune", upper_bound="joint")
    slow, elsewhere = _row(ranking, "slow"), _row(ranking, "elsewhere")
    assert (slow.seconds, slow.peak_mib, slow.compares) == (10.5, 101.0, True)
    assert math.isnan(elsewhere.seconds)
    assert math.isnan(elsewhere.peak_mib)
    cells = {row[2]: row[-2:] for row in ranking_table(ranking).rows}
    assert (cells["slow"], cells["elsewhere"]) == (["10.5", "101"], ["not comparable"] * 2)


def test_costs_that_were_not_measured_are_left_empty() -> None:
    records = [
        replace(record, seconds=NAN, peak_mib=NAN)
        if record.strategy == "replay"
        else replace(record, session="quiet")
        for record in _records(SOUND)
    ]
    ranking = rank(records, metrics=[ACCURACY], lower_bound="fine-tune", upper_bound="joint")
    assert {row[2]: row[-2:] for row in ranking_table(ranking).rows}["replay"] == ["", ""]


# --- records ------------------------------------------------------------------------------------------------


def test_two_protocols_never_meet_in_one_table() -> None:
    mixed = [*_records(SOUND, protocol="p" * 64), *_records(SOUND, protocol="q" * 64)]
    with pytest.raises(UserError, match="exactly one protocol, got 2: pppppppppppp, qqqqqqqqqqqq"):
        rank(mixed, metrics=[ACCURACY], lower_bound="fine-tune", upper_bound="joint")
    assert [len(group) for group in by_protocol(mixed).values()] == [25, 25]
    with pytest.raises(UserError, match="got 0: none"):
        rank([], metrics=[ACCURACY], lower_bound="", upper_bound="")


def test_of_several_records_for_one_cell_the_last_counts() -> None:
    ranking = rank(
        [*_records({"der": [0.1, 0.1]}), *_records(SOUND)],
        metrics=[ACCURACY],
        lower_bound="fine-tune",
        upper_bound="joint",
    )
    assert _row(ranking, "der").intervals["accuracy"].mean == pytest.approx(0.81)
    assert "2 older records of the same strategies and seeds are left out" in ranking.notes


def test_metrics_and_bounds_come_from_the_scenario_that_records_name() -> None:
    records = _records(SOUND, scenario="class-incremental[dataset=digits]", metric="average_accuracy")
    (ranking,) = rankings(records)
    assert ranking.primary.name == "average_accuracy"
    assert (ranking.lower, ranking.upper) == ("fine-tune", "joint")


# --- bounds -------------------------------------------------------------------------------------------------


def _without(label: str) -> dict[str, list[float]]:
    return {key: values for key, values in SOUND.items() if key != label}


def test_a_missing_bound_is_said() -> None:
    ranking = _rank(_without("joint"))
    assert ranking.upper is None
    assert "the bound 'joint' is missing: it was not run" in ranking.notes


def test_a_variant_of_a_bound_is_a_bound_and_never_placed() -> None:
    only = _rank({**_without("joint"), "joint[lr=0.1]": SOUND["joint"]})
    assert (only.upper, _row(only, "joint[lr=0.1]").role, _row(only, "joint[lr=0.1]").place) == (
        "joint[lr=0.1]",
        "upper bound",
        "",
    )
    two = _rank({**_without("joint"), "joint[lr=0.1]": SOUND["joint"], "joint[lr=0.2]": SOUND["joint"]})
    assert two.upper is None
    assert any("2 variants and none with default parameters" in note for note in two.notes)
    assert _rank({**SOUND, "joint[lr=0.2]": SOUND["joint"]}).upper == "joint"


def test_a_bound_that_failed_is_said() -> None:
    assert (
        "the bound 'joint' has no figure: none of its cells is done"
        in _rank({**SOUND, "joint": [NAN] * 5}).notes
    )


# --- several scenarios --------------------------------------------------------------------------------------


def test_the_aggregate_scales_each_scenario_between_its_bounds_seed_by_seed() -> None:
    first = _rank(
        {"fine-tune": [0.2, 0.0], "joint": [1.0, 0.8], "der": [0.6, 0.6], "ewc": [0.2, 0.4]},
        scenario="a",
        protocol="a",
    )
    second = _rank(
        {"fine-tune": [0.0, 0.0], "joint": [0.5, 1.0], "der": [0.5, 0.5], "ewc": [0.0, 0.0]},
        scenario="b",
        protocol="b",
    )
    found = aggregate([first, second])
    rows = {row.strategy: row for row in found.rows}
    assert list(rows) == ["der", "ewc"]
    assert rows["der"].scaled["a"].mean == pytest.approx((0.5 + 0.75) / 2)
    assert rows["der"].mean.mean == pytest.approx(((0.5 + 1.0) / 2 + (0.75 + 0.5) / 2) / 2)
    assert rows["ewc"].mean.mean == pytest.approx(((0.0 + 0.0) / 2 + (0.5 + 0.0) / 2) / 2)
    assert aggregate_table(found).rows[0][:3] == ["1-2", "a", "der"]


def test_scaling_follows_the_direction_of_the_metric() -> None:
    ranking = _rank({"fine-tune": [0.2, 0.2], "joint": [1.0, 1.0], "der": [0.8, 0.8]}, metrics=[FORGETTING])
    assert aggregate([ranking]).rows[0].mean.mean == pytest.approx(0.75)


def test_a_scenario_without_usable_bounds_is_left_out_and_said() -> None:
    sound = _rank(SOUND, scenario="sound", protocol="1")
    unbounded = _rank(_without("joint"), scenario="unbounded", protocol="2")
    flat = _rank({**SOUND, "joint": SOUND["fine-tune"]}, scenario="flat", protocol="3")
    found = aggregate([sound, unbounded, flat])
    assert found.scenarios == ("sound",)
    assert "unbounded is left out: no upper bound to scale by" in found.notes
    assert "flat is left out: its upper bound is under no seed better than its lower" in found.notes
    nothing = aggregate([unbounded])
    assert [row.place for row in nothing.rows] == ["-"] * 3
    assert "no aggregate: no seed under which every scenario can be scaled" in nothing.notes


def test_a_seed_with_equal_bounds_is_left_out_for_everybody() -> None:
    ranking = _rank({"fine-tune": [0.2, 0.9, 0.2], "joint": [1.0, 0.9, 1.0], "der": [0.6, 0.9, 0.4]})
    found = aggregate([ranking])
    assert found.seeds == (0, 2)
    assert found.rows[0].mean.mean == pytest.approx((0.5 + 0.25) / 2)
    assert "seed 1 of digits is left out: the upper bound is not better than the lower" in found.notes


def test_a_contender_that_lacks_a_scenario_has_no_mean() -> None:
    found = aggregate(
        [_rank(SOUND, scenario="a", protocol="a"), _rank(_without("ewc"), scenario="b", protocol="b")]
    )
    row = next(row for row in found.rows if row.strategy == "ewc")
    assert (row.place, row.seeds) == ("-", ())
    assert aggregate_table(found).rows[-1][:4] == ["-", "", "ewc", ""]


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_scaling_takes_away_the_unit_of_a_metric(factor: float, shift: float) -> None:
    changed = {label: [factor * value + shift for value in values] for label, values in SOUND.items()}
    once, again = aggregate([_rank(SOUND)]), aggregate([_rank(changed)])
    for first, second in zip(once.rows, again.rows, strict=True):
        assert first.mean == pytest.approx(second.mean, rel=1e-6, abs=1e-9)


# --- as text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.7143, 0.0092, "71.4 ± 0.9"),
        (0.7143, 0.0192, "71.4 ± 1.9"),
        (0.7143, 0.052, "71 ± 5"),
        (0.7143, 0.23, "71 ± 23"),
        (0.7143, 0.00123, "71.43 ± 0.12"),
        (0.7, 0.0, "70.0 ± 0.0"),
        (0.7143, NAN, "71.4"),
        (NAN, NAN, ""),
        (-0.0001, 0.01, "0.0 ± 1.0"),
    ],
)
def test_a_figure_has_the_digits_its_interval_justifies(mean: float, half: float, text: str) -> None:
    assert figure(Interval(mean, mean - half, mean + half, 5), 100) == text


def test_shares_are_printed_in_per_cent_and_counts_are_not() -> None:
    ranking = _rank(SOUND)
    assert scale(ranking, "accuracy") == 100
    steps = rank(
        _records({"der": [1200.0, 1300.0]}, metric="steps"),
        metrics=[Metric(name="steps", better="lower")],
        lower_bound="",
        upper_bound="",
    )
    assert scale(steps, "steps") == 1
    assert ranking_table(steps).header[3] == "steps ↓"
    assert ranking_table(ranking).header[3:5] == ["accuracy % ↑", "forgetting % ↓"]


def test_a_bound_with_components_competes_and_is_no_variant_of_the_bound() -> None:
    figures = {"fine-tune[components=rate+crrelu[start=0.05]]": [0.3, 0.4, 0.5], **SOUND}
    ranking = _rank(figures)
    (row,) = [row for row in ranking.rows if "components" in row.strategy]
    assert row.role == "contender"
    assert ranking.lower == "fine-tune"


def test_the_table_says_it_all_in_cells() -> None:
    table = ranking_table(_rank(SOUND), metrics=["accuracy"])
    assert table.header == [
        "place",
        "letters",
        "strategy",
        "accuracy % ↑",
        "versus best",
        "p",
        "seeds",
        "seconds",
        "peak MiB",
    ]
    assert table.rows[0] == ["1-2", "a", "der", "81.0 ± 2.3", "best", "", "5/5", "12.0", "104"]
    assert table.rows[2][:6] == ["3", "b", "ewc", "30.2 ± 2.4", "-51 ± 4", "<0.001"]
    assert [row[0] for row in table.rows[3:]] == ["upper bound", "lower bound"]
    assert table.rows[3][4].startswith("+14")
    assert all(len(row) == len(table.header) for row in table.rows)


def test_the_detectable_difference_is_among_the_notes() -> None:
    assert any(
        note.startswith("smallest true difference in accuracy found with probability 80%: about")
        for note in ranking_notes(_rank(SOUND))
    )


def test_markdown_escapes_what_would_break_a_table() -> None:
    table = tables.Table(["strategy", "reason"], [["replay[memory=50]", "a|b <img>\nsecond line `x`"]])
    assert markdown(table).splitlines()[2] == r"| replay\[memory=50\] | a\|b \<img\> second line \`x\` |"


def test_csv_has_a_line_per_metric_with_unscaled_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([_rank({**SOUND, "slow": [NAN] * 5})]))))
    assert len(rows) == 6 * 2
    assert (rows[0]["strategy"], rows[0]["metric"], rows[0]["mean"], rows[0]["p_holm"]) == (
        "der",
        "accuracy",
        "0.81",
        "",
    )
    slow = next(row for row in rows if row["strategy"] == "slow")
    assert (slow["mean"], slow["seeds"], slow["lacking"]) == ("", "0", "5")


def test_json_holds_no_nan() -> None:
    ranking = _rank({**SOUND, "slow": [0.5, NAN, 0.5, 0.5, 0.5]})
    content = json.loads(json.dumps(json_ready([ranking, aggregate([ranking])]), allow_nan=False))
    assert content[0]["rows"][0]["intervals"]["accuracy"].keys() == {"mean", "low", "high", "n"}
    assert content[0]["rows"][1]["versus_best"].keys() == set(Comparison._fields)


# --- times that may not be reached --------------------------------------------------------------------------

TIME = Metric(name="time", better="lower", censored=True)


def _timed(times: Mapping[str, Sequence[float]]) -> Ranking:
    """Return a ranking where every cell is done but those whose time is below zero; NaN stands for a time
    that was not reached.
    """
    records = [
        replace(
            record,
            metrics={"accuracy": 0.5 + record.seed / 10} | ({} if math.isnan(time) else {"time": time}),
        )
        if time >= 0 or math.isnan(time)
        else replace(record, status=Status.TIMEOUT, metrics={}, reason="took more than 5 s")
        for label, values in times.items()
        for record, time in zip(_records({label: [0.5] * len(values)}), values, strict=True)
    ]
    return rank(records, metrics=[ACCURACY, TIME], lower_bound="fine-tune", upper_bound="joint")


TIMES = {
    "quick": [300.0, 100.0, NAN, 200.0, NAN],
    "slow": [NAN, 900.0, NAN, NAN, 700.0],
    "broken": [0.5, -1, 0.75, NAN, -1],
    "hopeless": [-1.0] * 5,
}


def test_a_time_is_a_median_over_done_cells_and_never_the_mean_of_those_that_reached_it() -> None:
    ranking = _timed(TIMES)
    expected = {"quick": (300.0, 3, 5), "slow": (NAN, 2, 5), "broken": (0.75, 2, 3), "hopeless": (NAN, 0, 0)}
    for row in ranking.rows:
        assert tuple(row.times["time"]) == pytest.approx(expected[row.strategy], nan_ok=True)
    assert all("time" not in row.intervals for row in ranking.rows)
    for table in (ranking_table(ranking), figures_table(ranking, metrics=["time"])):
        column = table.header.index("time ↓")
        shown = {row[table.header.index("strategy")]: row[column] for row in table.rows}
        assert shown == {
            "quick": "300 (3 of 5)",
            "slow": "not reached (2 of 5)",
            "broken": "0.75 (2 of 3)",
            "hopeless": "",
        }


def test_csv_has_the_median_and_the_counts_of_a_time_and_no_mean() -> None:
    rows = {
        (row["strategy"], row["metric"]): row
        for row in csv.DictReader(io.StringIO(csv_text([_timed(TIMES)])))
    }
    quick, slow = rows["quick", "time"], rows["slow", "time"]
    assert [quick[name] for name in ("mean", "low", "high", "median", "reached", "of")] == [
        "",
        "",
        "",
        "300",
        "3",
        "5",
    ]
    assert [slow[name] for name in ("median", "reached", "of")] == ["", "2", "5"]
    assert [rows["quick", "accuracy"][name] for name in ("mean", "median", "reached", "of")] == [
        "0.7",
        "",
        "",
        "",
    ]
    assert (
        "median" not in csv_text([_rank(SOUND)]).splitlines()[0]
    )  # boards without such metrics keep their bytes


def test_json_of_a_time_has_the_median_and_the_counts() -> None:
    content = json.loads(json.dumps(json_ready(_timed(TIMES)), allow_nan=False))
    times = {row["strategy"]: row["times"]["time"] for row in content["rows"]}
    assert times["quick"] == {"median": 300.0, "reached": 3, "n": 5}
    assert times["slow"] == {"median": None, "reached": 2, "n": 5}


def test_no_ranking_goes_by_a_time() -> None:
    with pytest.raises(UserError, match="time may not be reached at all, so no ranking goes by it"):
        rank(_records(SOUND), metrics=[TIME, ACCURACY], lower_bound="fine-tune", upper_bound="joint")
    with pytest.raises(UserError, match="lists time_to_half first, which may not be reached"):
        protocols([f"{HERE}:Races"])


def test_pairs_of_times_are_not_compared() -> None:
    with pytest.raises(
        UserError, match="time is a time that may not be reached, and pairs that reached it say little"
    ):
        metric_of([ACCURACY, TIME], "time", "digits")


# --- cost ---------------------------------------------------------------------------------------------------


def test_ranking_imports_neither_mlflow_nor_torch() -> None:
    modules = "harness.results.aggregate, harness.results.tables, leaderboards.publishing.publish"
    code = f"import sys, {modules}; print({{'torch', 'mlflow', 'ray'}} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )


def test_ten_thousand_cells_are_ranked_in_seconds() -> None:
    rng = np.random.default_rng(0)
    figures = {f"s{index}": list(rng.uniform(size=100)) for index in range(100)}
    started = time.perf_counter()
    assert len(_rank(figures).rows) == 100
    assert time.perf_counter() - started < 10


def test_the_examples_in_the_docstrings_run() -> None:
    assert doctest.testmod(tables).failed == 0
