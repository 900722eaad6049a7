"""Effects of an ablation against hand calculation, scipy and least squares; what is said in words, tables,
LaTeX, a plot and a page.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from harness import statistics
from harness.contracts import Metric, Status
from harness.errors import UserError
from harness.protocol.contrasts import Ablation, Contrast
from harness.store import canvas
from harness.store.record import Record
from harness.studies.ablation import (
    Measured,
    Report,
    arranged,
    csv_text,
    effects_table,
    latex,
    markdown,
    metrics_table,
    notes,
    report,
    words,
)
from harness.studies.ablation.design import ablation
from harness.studies.ablation.forest import forest_figure
from harness.studies.ablation.page import write_report

ACCURACY, LOSS, TIME = (
    Metric(name="accuracy"),
    Metric(name="loss", better="lower"),
    Metric(name="steps_to_learn", censored=True),
)
FULL = (0.70, 0.74, 0.78)
Figures = Mapping[str, Sequence[float]]


def measured(
    figures: Figures,
    *,
    label: str = "blobs",
    metrics: Sequence[Metric] = (ACCURACY,),
    seconds: Figures | None = None,
    together: int = 1,
    sessions: Mapping[str, Sequence[str]] | None = None,
) -> Measured:
    """Return made-up cells of one run, or of `sessions`: the same figure in every metric; one that is not a
    number has failed.
    """
    seeds = len(next(iter(figures.values())))
    cells = {}
    for arm, series in figures.items():
        for seed, figure in enumerate(series):
            is_done = math.isfinite(figure)
            cells[arm, seed] = Record(
                key=f"{label}{arm}{seed}",
                run_id="",
                protocol_hash=f"hash of {label}",
                scenario=label,
                strategy=arm,
                seed=seed,
                status=Status.DONE if is_done else Status.TIMEOUT,
                reason="" if is_done else "took too long",
                metrics={metric.name: figure for metric in metrics},
                seconds=(seconds or {}).get(arm, [10.0] * seeds)[seed],
                peak_mib=200.0,
                together=together,
                session=(sessions or {}).get(arm, ["monday"] * seeds)[seed],
            )
    return Measured(label=label, metrics=metrics, seeds=seeds, cells=cells)


def one_by_one(*arms: str) -> Ablation:
    """Return an ablation of `full` by leaving parts out, one for each of `arms`."""
    contrasts = tuple(
        Contrast(kind="component", on=f"{arm}=on", off="off", plus=("full",), minus=(arm,)) for arm in arms
    )
    return Ablation(
        strategy="full", design="leave-one-out", reference="full", arms=("full", *arms), contrasts=contrasts
    )


def told(figures: Figures, **options: Sequence[Metric]) -> Report:
    return report(one_by_one(*[arm for arm in figures if arm != "full"]), [measured(figures, **options)])


# --- figures ------------------------------------------------------------------------------------------------


def test_a_difference_is_that_of_scipys_paired_t_test() -> None:
    without = (0.66, 0.72, 0.71)
    (effect,) = told({"full": FULL, "a": without}).parts[0].effects["accuracy"]
    expected = stats.ttest_rel(FULL, without)
    low, high = expected.confidence_interval(0.95)
    assert effect.difference == pytest.approx((0.04 + 0.02 + 0.07) / 3)
    assert (effect.low, effect.high, effect.p) == pytest.approx((low, high, expected.pvalue))
    assert (effect.first, effect.second) == pytest.approx((np.mean(FULL), np.mean(without)))
    assert (effect.sign_flip_p, effect.pairs, effect.cells, effect.p_holm) == (0.25, 3, 3, effect.p)


def test_p_is_holm_corrected_over_the_contrasts_that_can_be_tested() -> None:
    arms = {"a": (0.60, 0.65, 0.67), "b": (0.69, 0.74, 0.76), "c": (0.50, 0.55, 0.57), "d": (math.nan,) * 3}
    effects = told({"full": FULL, **arms}).parts[0].effects["accuracy"]
    p = [stats.ttest_rel(FULL, arms[name]).pvalue for name in "abc"]
    order = np.argsort(p)
    by_hand = np.empty(3)
    by_hand[order] = np.minimum(
        1, np.maximum.accumulate([(3 - place) * p[at] for place, at in enumerate(order)])
    )
    assert [effect.p_holm for effect in effects[:3]] == pytest.approx(by_hand)
    assert math.isnan(effects[3].p_holm)
    assert [effect.family for effect in effects] == [3, 3, 3, 3]


def test_what_could_have_been_found_is_found_four_times_in_five() -> None:
    """The noncentral t of scipy at the level of the hardest step of Holm."""
    arms = {"a": (0.66, 0.72, 0.71, 0.70), "b": (0.69, 0.75, 0.77, 0.70)}
    full = (0.70, 0.74, 0.78, 0.71)
    effect = told({"full": full, **arms}).parts[0].effects["accuracy"][0]
    spread = np.std(np.subtract(full, arms["a"]), ddof=1)
    critical = stats.t.ppf(1 - 0.025 / 2, 3)
    centre = effect.detectable * math.sqrt(4) / spread
    power = stats.nct.sf(critical, 3, centre) + stats.nct.cdf(-critical, 3, centre)
    assert power == pytest.approx(0.8, abs=1e-6)


def test_a_seed_where_either_side_failed_is_left_out_and_listed() -> None:
    found = told({"full": FULL, "a": (0.66, math.nan, 0.71)})
    (effect,) = found.parts[0].effects["accuracy"]
    assert (effect.pairs, effect.cells) == (2, 3)
    assert effect.difference == pytest.approx((0.04 + 0.07) / 2)
    assert [(one.arm, one.seed, one.status, one.reason) for one in found.failures] == [
        ("a", 1, "timeout", "took too long")
    ]


def test_a_cost_is_paired_too_and_a_ratio_of_means() -> None:
    seconds = {"full": (12.0, 14.0, 16.0), "a": (10.0, 11.0, 12.0)}
    found = report(one_by_one("a"), [measured({"full": FULL, "a": (0.66, 0.72, 0.71)}, seconds=seconds)])
    cost = found.parts[0].effects["accuracy"][0].cost
    assert cost is not None
    assert cost.seconds.difference == pytest.approx(3.0)
    assert (cost.seconds.low, cost.seconds.high) == pytest.approx(
        stats.ttest_rel(seconds["full"], seconds["a"]).confidence_interval()
    )
    assert cost.seconds_ratio == pytest.approx(14 / 11)
    assert (cost.peak_mib.difference, cost.peak_ratio) == (0.0, 1.0)


SECONDS = {"full": (12.0, 14.0, 16.0), "a": (10.0, 11.0, 12.0)}
ARMS = {"full": FULL, "a": (0.66, 0.72, 0.71)}


@pytest.mark.parametrize("full", [("tuesday",) * 3, ("",) * 3, ("tuesday", "", "wednesday")])
def test_costs_of_several_runs_or_of_unknown_ones_are_not_comparable(full: tuple[str, ...]) -> None:
    found = report(one_by_one("a"), [measured(ARMS, seconds=SECONDS, sessions={"full": full})])
    cost = found.parts[0].effects["accuracy"][0].cost
    assert cost is not None
    assert (cost.compares, cost.seconds.pairs, cost.pairs) == (False, 0, 3)
    assert effects_table(found.parts[0]).rows[0][-2:] == ["not comparable", "not comparable"]
    assert any("within one run on one machine" in note for note in notes(found))
    assert next(csv.DictReader(io.StringIO(csv_text(found))))["seconds"] == ""
    unknown = report(
        one_by_one("a"), [measured(ARMS, seconds=SECONDS, sessions={"full": ("",) * 3, "a": ("",) * 3})]
    )
    assert effects_table(unknown.parts[0]).rows[0][-1] == "not comparable"


def test_costs_are_of_the_run_with_most_pairs_and_of_the_later_one_of_equals() -> None:
    most = dict.fromkeys(ARMS, ("monday", "monday", "tuesday"))
    found = report(one_by_one("a"), [measured(ARMS, seconds=SECONDS, sessions=most)])
    cost = found.parts[0].effects["accuracy"][0].cost
    assert cost is not None
    assert (cost.seconds.difference, cost.seconds.pairs, cost.seconds_ratio) == (2.5, 2, 13 / 10.5)
    assert any("within one run on one machine" in note for note in notes(found))
    equal = {"full": ("monday", "tuesday", "tuesday"), "a": ("monday", "tuesday", "monday")}
    cost = (
        report(one_by_one("a"), [measured(ARMS, seconds=SECONDS, sessions=equal)])
        .parts[0]
        .effects["accuracy"][0]
        .cost
    )
    assert cost is not None
    assert cost.seconds.difference == 3.0  # of tuesday
    within = report(one_by_one("a"), [measured(ARMS, seconds=SECONDS)])
    assert not any("within one run" in note for note in notes(within))


def test_main_effects_and_interactions_are_those_of_least_squares() -> None:
    """y = b0 + sum b_i x_i + sum b_ij x_i x_j + b_123 x_1 x_2 x_3 with x = +-1 under every seed: effects are
    2 b_i and 4 b_ij.
    """
    wanted = ablation("elr", design="factorial", components="weight=0,beta=0.9,update_first")
    settings = list(itertools.product((1, -1), repeat=3))  # in the order of the arms: all on first
    seeds, rng = 5, np.random.default_rng(3)
    x = np.array([[1, a, b, c, a * b, a * c, b * c, a * b * c] for a, b, c in settings], dtype=float)
    y = rng.normal(size=(8, seeds)) + x @ np.array([5, 1, 0.5, 0, 0.25, 0, -0.5, 0.1])[:, None]
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    expected = np.vstack([2 * coefficients[1:4], 4 * coefficients[4:7]])
    effects = (
        report(wanted, [measured(dict(zip(wanted.arms, y.tolist(), strict=True)))])
        .parts[0]
        .effects["accuracy"]
    )
    assert [effect.contrast.kind for effect in effects] == ["component"] * 3 + ["interaction"] * 3
    for effect, values in zip(effects, expected, strict=True):
        assert effect.difference == pytest.approx(values.mean())
        assert effect.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert (effect.cost is None) == (effect.contrast.kind == "interaction")


def test_an_interaction_of_two_is_a_difference_of_differences() -> None:
    wanted = ablation("elr", design="factorial", components="weight=0,beta=0")
    y = [(0.9, 0.8), (0.6, 0.7), (0.5, 0.6), (0.4, 0.3)]  # both, without beta, without weight, neither
    interaction = (
        report(wanted, [measured(dict(zip(wanted.arms, y, strict=True)))]).parts[0].effects["accuracy"][2]
    )
    by_hand = [(0.9 - 0.5) - (0.6 - 0.4), (0.8 - 0.6) - (0.7 - 0.3)]
    assert interaction.difference == pytest.approx(np.mean(by_hand))
    assert interaction.pairs == 2
    assert math.isnan(interaction.first)


# --- several scenarios --------------------------------------------------------------------------------------

ONE = {"full": FULL, "a": (0.66, 0.72, 0.71)}
TWO = {"full": (0.50, 0.58, 0.51), "a": (0.42, 0.47, 0.45)}


def test_the_mean_over_scenarios_pools_variances_and_flips_signs_within_them() -> None:
    found = report(one_by_one("a"), [measured(ONE), measured(TWO, label="rings")])
    assert [part.label for part in found.parts] == ["blobs", "rings", "mean over 2 scenarios"]
    (effect,) = found.parts[2].effects["accuracy"]
    differences = [np.subtract(ONE["full"], ONE["a"]), np.subtract(TWO["full"], TWO["a"])]
    expected = statistics.pooled_paired_t([ONE["full"], TWO["full"]], [ONE["a"], TWO["a"]])
    assert effect.difference == pytest.approx(np.mean([values.mean() for values in differences]))
    assert (effect.low, effect.high, effect.p, effect.pairs) == pytest.approx(expected[1:])
    signs = np.array(list(itertools.product((1, -1), repeat=6)))
    sums = np.abs(signs @ np.concatenate(differences))
    assert effect.sign_flip_p == pytest.approx(np.mean(sums >= sums[0] - 1e-12)) == 2 / 64
    assert effects_table(found.parts[0]).header[3:5] == ["p (Holm)", "found 80%"]
    assert effects_table(found.parts[2]).header[3:5] == ["p (Holm)", "sign flips (Holm)"]
    assert effects_table(found.parts[2]).rows[0][4] == "0.031"


def test_a_scenario_that_leads_with_another_metric_has_no_mean_with_the_first() -> None:
    found = report(one_by_one("a"), [measured(ONE), measured(TWO, label="rings", metrics=(LOSS,))])
    assert [part.label for part in found.parts] == ["blobs", "rings"]
    assert any("no mean over scenarios" in note for note in found.notes)


def test_records_are_put_in_place_by_order_and_not_by_name() -> None:
    """A cached cell may have been recorded as another name of the same configuration."""
    cells = measured(ONE).cells
    ordered = [cells[arm, seed] for seed in range(3) for arm in ("full", "a")]
    (found,) = arranged(ordered, scenarios={"blobs": (ACCURACY,)}, arms=("x", "y"), seeds=3)
    assert found.figures("x", "accuracy").tolist() == list(ONE["full"])
    assert found.figures("y", "accuracy").tolist() == list(ONE["a"])
    with pytest.raises(ValueError, match="shorter"):
        arranged(ordered[:-1], scenarios={"blobs": (ACCURACY,)}, arms=("x", "y"), seeds=3)


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "metric", "said"),
    [
        ((0.60, 0.65, 0.67), ACCURACY, r"contributes \+10\.0 \[7\.5, 12\.5\]"),
        ((0.80, 0.84, 0.87), ACCURACY, r"hurts -9\.7 \[-11\.1, -8\.2\]"),
        ((0.80, 0.84, 0.87), LOSS, r"contributes -9\.7 \[-11\.1, -8\.2\]"),
        ((0.66, 0.78, 0.71), ACCURACY, r"cannot decide: \+2 \[-12, 16\]"),
        (
            (0.60, 0.64, 0.68),
            ACCURACY,
            r"cannot decide: \+10\.0 under every one of 3 seeds, without a spread to judge by",
        ),
        (FULL, ACCURACY, "changes nothing: equal under all 3 seeds"),
        ((0.60, math.nan, math.nan), ACCURACY, r"cannot decide: \+10\.0 from 1 seed, without a spread"),
        ((math.nan,) * 3, ACCURACY, "cannot decide: no seed with every figure"),
    ],
)
def test_a_verdict_in_words(without: Sequence[float], metric: Metric, said: str) -> None:
    (effect,) = told({"full": FULL, "a": without}, metrics=(metric,)).parts[0].effects[metric.name]
    assert re.fullmatch(said, words(effect))


def test_an_interval_off_zero_decides_nothing_where_the_corrected_p_does_not() -> None:
    near = dict.fromkeys(("a", "b"), (0.69, 0.72, 0.765))
    effect = told({"full": FULL, **near}).parts[0].effects["accuracy"][0]
    assert effect.low > 0
    assert effect.p < 0.05 < effect.p_holm
    assert words(effect).startswith("cannot decide: +1.5 [0.3, ")


def test_interactions_have_words_of_their_own() -> None:
    wanted = ablation("elr", design="factorial", components="weight=0,beta=0")
    helpful = [(0.90, 0.91, 0.92), (0.50, 0.51, 0.53), (0.50, 0.52, 0.52), (0.50, 0.51, 0.52)]
    for sign, said in ((1, "reinforce each other"), (-1, "overlap")):
        series = [tuple(sign * value for value in values) for values in helpful]
        interaction = (
            report(wanted, [measured(dict(zip(wanted.arms, series, strict=True)))])
            .parts[0]
            .effects["accuracy"][2]
        )
        assert interaction.verdict == said


def test_times_that_may_not_be_reached_and_packs_are_told_and_refused() -> None:
    found = report(one_by_one("a"), [measured(ONE, metrics=(ACCURACY, TIME), together=3)])
    assert list(found.parts[0].effects) == ["accuracy"]
    assert any("steps_to_learn" in note for note in notes(found))
    assert any("--no-together" in note for note in notes(found))
    with pytest.raises(UserError, match="may not be reached"):
        report(one_by_one("a"), [measured(ONE, metrics=(ACCURACY, TIME))], metrics=["steps_to_learn"])
    with pytest.raises(UserError, match="did you mean 'accuracy'"):
        report(one_by_one("a"), [measured(ONE)], metrics=["acuracy"])


# --- tables and files ---------------------------------------------------------------------------------------

HOSTILE = 'a_b<script>&"|%'


@pytest.fixture
def hostile() -> Report:
    return told(
        {"full": FULL, HOSTILE: (0.60, 0.65, 0.67), "b": (0.66, math.nan, 0.71)}, metrics=(ACCURACY, LOSS)
    )


def test_a_table_has_a_row_for_every_contrast(hostile: Report) -> None:
    (part,) = hostile.parts
    table = effects_table(part)
    assert table.header[2] == "accuracy % ↑"
    assert [row[:2] for row in table.rows] == [[f"{HOSTILE}=on", "off"], ["b=on", "off"]]
    assert [row[5] for row in table.rows] == ["3/3", "2/3"]
    assert table.rows[0][6] == "0.000 ± 0.000 (x1.00)"
    wide = metrics_table(part)
    assert wide.header[2:] == ["accuracy % ↑", "loss % ↓"]
    assert wide.rows[0][2].endswith("*")
    assert not wide.rows[1][2].endswith("*")


def test_csv_holds_the_unscaled_numbers(hostile: Report) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(hostile))))
    assert [(row["component"], row["metric"]) for row in rows] == [
        (f"{HOSTILE}=on", "accuracy"),
        ("b=on", "accuracy"),
        (f"{HOSTILE}=on", "loss"),
        ("b=on", "loss"),
    ]
    effect = hostile.parts[0].effects["accuracy"][0]
    assert float(rows[0]["difference"]) == pytest.approx(effect.difference)
    assert float(rows[0]["p_holm"]) == pytest.approx(effect.p_holm)
    assert (rows[0]["verdict"], rows[0]["seconds"], rows[0]["peak_mib_ratio"]) == ("contributes", "0", "1")


class _Reader(HTMLParser):
    """Collects tags and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_files_are_written_whole_and_hold_text_as_text(hostile: Report, tmp_path: Path) -> None:
    paths = write_report(hostile, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    png = (tmp_path / "new" / "forest.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    page = (tmp_path / "new" / "effects.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(page)
    assert reader.tags.count("script") == 1  # the theme's
    assert f"{HOSTILE}=on" in reader.text
    assert set(re.findall(r'(?:src|href)="(?!data:|#)([^"]*)', page)) == {
        path.name for path in paths if path.suffix != ".html"
    }
    said = markdown(hostile)
    assert "<script>" not in said.replace("\\<script\\>", "")
    assert "| b | 1 | timeout | took too long |" in said
    tex = latex(hostile)
    assert r"a\_b\textless{}script\textgreater{}\&" in tex
    assert tex.count(r"\begin{tabular}{llrr}") == 1
    assert markdown(hostile) == (tmp_path / "new" / "effects.md").read_text()


def test_a_forest_of_many_scenarios_is_no_larger_than_any_picture(hostile: Report) -> None:
    with Image.open(
        io.BytesIO(canvas.png(forest_figure(replace(hostile, parts=hostile.parts * 60))))
    ) as picture:
        assert max(picture.size) <= canvas.LONGEST_SIDE
        assert picture.size[0] * picture.size[1] <= canvas.MOST_PIXELS


def test_a_folder_that_cannot_be_written_is_told(hostile: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        write_report(hostile, tmp_path / "file")
