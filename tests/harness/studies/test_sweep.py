"""Sensitivity against hand calculation, scipy and simulation; what a sweep asks; `owb sweep` from end to end
on a tiny world.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import BLOBS, Owb
from scipy import stats

from harness import statistics
from harness.contracts import Status
from harness.errors import UserError
from harness.store import canvas
from harness.store.mlflow_store import Store
from harness.store.record import Record
from harness.studies.space import read_space
from harness.studies.sweep import (
    Definition,
    Report,
    View,
    csv_text,
    definition_of,
    latex,
    markdown,
    notes,
    report_of,
    sentences,
    tables,
)
from harness.studies.sweep.definition import Figure
from harness.studies.sweep.dependence import moves, spearman
from harness.studies.sweep.page import html, write_report
from harness.studies.sweep.plot import sensitivity_figure

TOY = '''
"""A learner of class means with parameters that matter, matter not, or cannot be."""

import numpy as np

from harness.contracts import Prediction, Strategy, param
from harness.errors import UserError


class Toy(Strategy):
    """Nearest class mean, over shifted means."""

    shift: float = param(0.0, ge=0)
    idle: int = param(1, ge=0, le=10)
    broken: bool = param(False)

    def setup(self):
        if self.idle == 7:
            raise UserError("idle may not be 7")
        self.means = {}

    def learn(self, stage):
        if self.broken:
            raise RuntimeError("broken on purpose")
        for label in np.unique(stage.labels):
            self.means[int(label)] = stage.inputs[stage.labels == label].mean(axis=0) + self.shift * label

    def predict(self, query):
        far = np.stack([np.square(query.inputs - mean).sum(axis=1) for mean in self.means.values()])
        return Prediction(classes=np.array(list(self.means))[far.argmin(axis=0)])
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY, encoding="utf-8")
    return f"{path}:Toy"


# --- tests of dependence ------------------------------------------------------------------------------------


def test_with_two_values_the_test_is_scipys_paired_t() -> None:
    a, b = (0.70, 0.74, 0.78, 0.71), (0.66, 0.72, 0.71, 0.70)
    assert moves([a, b]) == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_with_more_values_f_is_that_of_two_way_least_squares() -> None:
    """F by residual sums of squares of models with and without an effect of the value, seeds in both, at the
    lower bound of freedom.
    """
    rng = np.random.default_rng(1)
    y = rng.normal(size=(4, 5)) + np.arange(4)[:, None] * 0.5
    value, seed = (index.ravel() for index in np.indices(y.shape))
    with_seeds = np.stack([seed == level for level in range(5)], axis=1).astype(float)
    with_both = np.hstack(
        [with_seeds, np.stack([value == level for level in range(1, 4)], axis=1).astype(float)]
    )
    rss = [
        float(np.square(y.ravel() - x @ np.linalg.lstsq(x, y.ravel(), rcond=None)[0]).sum())
        for x in (with_seeds, with_both)
    ]
    f = ((rss[0] - rss[1]) / 3) / (rss[1] / 12)
    assert moves(y) == pytest.approx(stats.f.sf(f, 1, 4))


def test_dependence_that_cannot_be_judged_or_has_no_spread() -> None:
    assert moves([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]) == 1.0
    assert moves([[0.5, 0.6, 0.7], [0.6, 0.7, 0.8]]) == 0.25  # the same difference under three seeds: 2 / 2^3
    assert math.isnan(moves([[0.5], [0.7]]))
    assert math.isnan(moves([[0.5, 0.6, 0.7]]))
    assert moves([[0.5, 0.6, math.nan], [0.7, 0.9, 0.1]]) == pytest.approx(
        stats.ttest_rel([0.5, 0.6], [0.7, 0.9]).pvalue
    )


def test_a_parameter_that_does_nothing_is_seldom_said_to_move_the_figure() -> None:
    """The lower bound holds also where values resemble their neighbours; 5 % is promised, 2,000 sweeps of 5
    values under 4 seeds.
    """
    rng = np.random.default_rng(0)
    wrong = np.mean([moves(np.cumsum(rng.normal(size=(5, 4)), axis=0)) <= 0.05 for _ in range(2000)])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("n", [4, 6, 12, 40])
def test_rank_correlation_is_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.integers(0, 6, size=n).astype(float), rng.normal(size=n)
    found, expected = spearman(x, y), stats.spearmanr(x, y)
    assert found.n == n
    assert found.rho == pytest.approx(expected.statistic)
    if n > 8:
        assert found.p == pytest.approx(expected.pvalue)
    else:
        every = [stats.spearmanr(x, other).statistic for other in itertools.permutations(y)]
        assert found.p == pytest.approx(np.mean(np.abs(every) >= abs(expected.statistic) - 1e-9))


def test_rank_correlation_of_what_does_not_vary_is_not_a_number() -> None:
    assert math.isnan(spearman([1, 1, 1, 1], [1, 2, 3, 4]).rho)
    assert math.isnan(spearman([1, 2], [1, 2]).p)
    assert spearman([1, 2, 3, math.nan], [3, 2, 1, 9]).rho == -1.0


# --- what is asked ------------------------------------------------------------------------------------------


def asked(strategy: str, *scenarios: str, **options: Any) -> Definition:
    spaces = [read_space("scenario", text) for text in scenarios or (BLOBS,)]
    definition = definition_of(
        read_space("strategy", strategy), spaces, **{"seeds": 2, "bounds": False, **options}
    )
    return Definition.model_validate(json.loads(json.dumps(definition)))


def test_a_grid_crosses_strategy_and_scenario_and_adds_the_default(toy: str) -> None:
    found = asked(f"{toy}[shift=[1,2],idle=[1,2]]", f"{BLOBS}[stages=[2,3]]", bounds=True)
    swept = [f"{toy}[shift={shift},idle={idle}]" for shift in (1, 2) for idle in (1, 2)]
    assert [setting.label for setting in found.settings] == [*swept, toy]
    assert [(setting.is_default, setting.is_swept) for setting in found.settings] == [(False, True)] * 4 + [
        (True, False)
    ]
    assert found.settings[-1].values == {"shift": 0.0, "idle": 1}
    (block,) = found.blocks
    assert block.scenarios == (f"{BLOBS}[stages=2]", f"{BLOBS}[stages=3]")
    assert block.strategies == (*swept, toy, "fine-tune", "joint")
    assert [place.values for place in found.families[0].places] == [
        {"scenario.stages": 2},
        {"scenario.stages": 3},
    ]


def test_a_default_that_is_on_the_grid_is_not_run_twice(toy: str) -> None:
    found = asked(f"{toy}[shift=[0,1]]", BLOBS, f"{BLOBS}[items=20]")
    assert [(setting.label, setting.is_default) for setting in found.settings] == [
        (f"{toy}[shift=0]", True),
        (f"{toy}[shift=1]", False),
    ]
    assert [scenario.label for scenario in found.scenarios] == [
        BLOBS
    ]  # the second is the first under another name


def test_a_larger_random_sweep_has_the_settings_of_the_smaller_one(toy: str) -> None:
    text = f"{toy}[shift=log:0.01..1,idle=1..6]"
    few, many, other = (asked(text, drawn=n, sample_seed=seed) for n, seed in ((4, 0), (9, 0), (4, 1)))
    labels = [[setting.label for setting in one.settings if setting.is_swept] for one in (few, many, other)]
    assert labels[1][:4] == labels[0]
    assert set(labels[2]).isdisjoint(labels[0])
    assert [len(one) for one in labels] == [4, 9, 4]


def test_strategy_and_scenario_are_drawn_together(toy: str) -> None:
    found = asked(f"{toy}[shift=0.1..1]", f"{BLOBS}[items=5..50]", drawn=6)
    assert sum(len(block.scenarios) * len(block.strategies) for block in found.blocks) == 6  # and not 36
    assert found.settings == tuple(setting for setting in found.settings if setting.is_swept)
    alone = asked(f"{toy}[shift=0.1..1]", drawn=6)
    assert [setting.label for setting in alone.settings][:6] == [setting.label for setting in found.settings]


@pytest.mark.parametrize(
    ("strategy", "options", "told"),
    [
        ("TOY", {}, "nothing varies in .*: give a parameter several values"),
        (
            "TOY[shift=0..1]",
            {},
            r"shift=0.0..1.0 is a range, which a grid cannot go through: list values, shift=\[0.0,1.0\], or draw",
        ),
        (
            "TOY[shift=[1,2,3],idle=[1,2,3]]",
            {"most": 8},
            "a grid of 9 settings is more than 8: list fewer values, .* --most 9",
        ),
        ("TOY[idle=0..5]", {"drawn": 7}, "7 settings that differ were asked for, and .* ask for at most 6"),
        ("TOY[idle=[1,2]]", {"metrics": ["acuracy"]}, "unknown metric 'acuracy'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence(
    toy: str, strategy: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as error:
        asked(strategy.replace("TOY", toy), **options)
    assert "\n" not in str(error.value)


def test_a_grid_of_millions_is_counted_and_not_made(toy: str) -> None:
    values = ",".join(f"{value / 10}" for value in range(1, 2001))
    with pytest.raises(
        UserError,
        match=r"a grid of 40,000 settings is more than 256: .*--random 64, or allow them by --most 40000",
    ):
        asked(f"{toy}[shift=[{values}],idle=[1,2]]", f"{BLOBS}[items=[1,2,3,4,5,6,7,8,9,10]]")


# --- what is said -------------------------------------------------------------------------------------------

Measure = Callable[[str, Mapping[str, Any], int], float]


def recorded(definition: Definition, figure: Measure) -> list[Record]:
    """Return made-up cells in the order of the blocks; `figure` takes the scenario, the values and the seed,
    NaN for one that timed out.
    """
    values = {setting.label: setting.values for setting in definition.settings}
    records = []
    for block in definition.blocks:
        for scenario, seed, label in itertools.product(
            block.scenarios, range(definition.seeds), block.strategies
        ):
            reached = figure(scenario, values.get(label, {"bound": label}), seed)
            is_done = math.isfinite(reached)
            records.append(
                Record(
                    key=f"{scenario}{label}{seed}",
                    run_id="",
                    protocol_hash=f"hash of {scenario}",
                    scenario=scenario,
                    strategy="another name",
                    seed=seed,
                    status=Status.CACHED if is_done else Status.TIMEOUT,
                    reason="" if is_done else "took too long",
                    metrics={"average_accuracy": reached} if is_done else {},
                    seconds=2.0,
                )
            )
    return records


def told(definition: Definition, figure: Measure) -> Report:
    return report_of(definition.model_dump(mode="json"), recorded(definition, figure))


NOISE = np.random.default_rng(7).normal(scale=0.004, size=(10, 20))


def hill(_: str, values: Mapping[str, Any], seed: int) -> float:
    """Return a figure that is highest at shift=2, rises with idle, and is never the same."""
    if "bound" in values:
        return 0.1 if values["bound"] == "fine-tune" else 0.9
    shift, idle = float(values["shift"]), float(values["idle"])
    return (
        0.5 - 0.1 * abs(shift - 2) + 0.01 * idle + 0.02 * seed + float(NOISE[seed, round(4 * shift + idle)])
    )


@pytest.fixture(scope="module")
def grid(toy: str) -> tuple[Definition, Report]:
    definition = asked(f"{toy}[shift=[1,2,3],idle=[1,2]]", seeds=5, bounds=True)
    return definition, told(definition, hill)


def view_of(report: Report) -> View:
    return report.parts[0].views[0]


def at(shift: float, idle: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([hill("", {"shift": shift, "idle": idle}, seed) for seed in range(5)])


def test_curves_are_means_over_the_others_and_slices_at_the_best(grid: tuple[Definition, Report]) -> None:
    view = view_of(grid[1])
    shift, idle = view.effects
    assert (shift.dimension, shift.curve.values, shift.curve.settings) == ("shift", (1, 2, 3), 2)
    for place, value in enumerate((1, 2, 3)):
        assert shift.curve.intervals[place] == pytest.approx(
            statistics.t_interval((at(value, 1) + at(value, 2)) / 2)
        )
        assert shift.best
        assert shift.best.intervals[place] == pytest.approx(statistics.t_interval(at(value, 2)))
    assert shift.best
    assert shift.best.held == {"idle": 2}
    assert idle.best is not None
    assert idle.best.held == {"shift": 2}
    means = [float(((at(value, 1) + at(value, 2)) / 2).mean()) for value in (1, 2, 3)]
    assert (shift.move.low_at, shift.move.high_at) == ((1, 3)[int(np.argmin([means[0], means[2]]))], 2)
    assert shift.move.size == pytest.approx(max(means) - min(means))
    assert shift.move.p == pytest.approx(moves([(at(value, 1) + at(value, 2)) / 2 for value in (1, 2, 3)]))
    assert [shift.move.p_holm, idle.move.p_holm] == pytest.approx(
        statistics.holm([shift.move.p, idle.move.p]).tolist()
    )
    assert (shift.move.verdict, idle.move.size < shift.move.size) == ("moves it", True)
    assert shift.best_move is not None
    assert shift.best_move.p == pytest.approx(moves([at(value, 2) for value in (1, 2, 3)]))
    assert shift.best_move.size == pytest.approx(
        float(at(2, 2).mean() - min(at(1, 2).mean(), at(3, 2).mean()))
    )


def test_the_best_is_compared_with_the_default_and_the_second(
    grid: tuple[Definition, Report], toy: str
) -> None:
    view = view_of(grid[1])
    best = view.best
    assert best is not None
    series = {(shift, idle): at(shift, idle) for shift in (1, 2, 3) for idle in (1, 2)}
    assert best.label == f"{toy}[shift=2,idle=2]"
    assert best.figure == pytest.approx(statistics.t_interval(series[2, 2]))
    assert (best.settings, best.pairs, best.default, best.second) == (7, 21, toy, f"{toy}[shift=2,idle=1]")
    default = at(0, 1)
    others = [stats.ttest_rel(own, default).pvalue for own in series.values()]
    assert best.vs_default is not None
    assert best.vs_default.difference == pytest.approx(float((series[2, 2] - default).mean()))
    assert best.vs_default.p == pytest.approx(statistics.holm(others)[list(series).index((2, 2))])
    every = statistics.compare_all({**{str(key): own for key, own in series.items()}, "default": default})
    assert best.vs_second == pytest.approx(every["(2, 2)", "(2, 1)"])
    beaten = [other for (one, other), found in every.items() if one == "(2, 2)" and found.p <= 0.05]
    assert len(best.tied) == 6 - len(beaten)


def test_a_figure_that_is_better_when_lower_has_its_best_at_the_bottom(toy: str) -> None:
    definition = asked(f"{toy}[shift=[1,2,3],idle=[1,2]]", seeds=5)
    lower = definition.model_copy(
        update={
            "scenarios": tuple(
                one.model_copy(update={"metrics": (Figure(name="average_accuracy", better="lower"),)})
                for one in definition.scenarios
            )
        }
    )
    best = view_of(told(lower, lambda scenario, values, seed: -hill(scenario, values, seed))).best
    assert best is not None
    assert best.label == f"{toy}[shift=2,idle=2]"


def test_two_dimensions_have_a_heat_map_of_means(grid: tuple[Definition, Report]) -> None:
    heat = view_of(grid[1]).heat
    assert heat is not None
    assert (heat.down, heat.across, heat.lacking) == ("shift", "idle", ((0, 0),) * 3)
    assert heat.means == pytest.approx(
        np.array([[at(shift, idle).mean() for idle in (1, 2)] for shift in (1, 2, 3)])
    )


def test_bounds_stand_beside_and_are_no_settings(grid: tuple[Definition, Report]) -> None:
    view = view_of(grid[1])
    assert view.lower is not None
    assert view.upper is not None
    assert (view.lower.mean, view.upper.mean) == pytest.approx((0.1, 0.9))
    assert not {"joint", "fine-tune"} & {row.setting for row in view.rows}


def test_no_value_is_averaged_over_other_settings_than_the_next_one(toy: str) -> None:
    """idle=1 fails at shift=3 under seed 0: that seed's mean is over idle=2 alone at every shift; a value
    without any figure stays out.
    """
    definition = asked(f"{toy}[shift=[1,2,3,4],idle=[1,2]]", seeds=3)

    def figure(scenario: str, values: Mapping[str, Any], seed: int) -> float:
        fails = values["shift"] == 4 or (values["shift"], values["idle"], seed) == (3, 1, 0)
        return math.nan if fails else hill(scenario, values, seed)

    found = told(definition, figure)
    shift, idle = view_of(found).effects
    both, alone = [hill("", {"shift": 1, "idle": i}, 1) for i in (1, 2)], hill("", {"shift": 1, "idle": 2}, 0)
    third = [hill("", {"shift": 1, "idle": i}, 2) for i in (1, 2)]
    assert shift.curve.intervals[0].mean == pytest.approx(np.mean([alone, np.mean(both), np.mean(third)]))
    assert math.isnan(shift.curve.intervals[3].mean)
    assert idle.curve.settings == 3
    assert {(one.setting, one.seed) for one in found.failures} >= {
        (f"{toy}[shift=3,idle=1]", 0),
        (f"{toy}[shift=4,idle=2]", 2),
    }
    assert "failed" in markdown(found)
    best = view_of(found).best
    assert best is not None
    assert best.settings == 4 + 1 + 1  # both at shift 1 and 2, idle=2 at shift 3, and the default


def test_parameters_of_a_scenario_have_a_curve_and_no_ranking(toy: str) -> None:
    definition = asked(f"{toy}[idle=[1,2]]", f"{BLOBS}[stages=[2,3]]", seeds=3)

    def figure(scenario: str, values: Mapping[str, Any], seed: int) -> float:
        stages = 2 if "stages=2" in scenario else 3
        return 0.9 - 0.1 * stages + 0.05 * int(values["idle"]) + 0.01 * seed + float(NOISE[seed, stages])

    found = told(definition, figure)
    assert [part.kind for part in found.parts] == ["settings", "settings", "scenarios"]
    part = found.parts[2]
    view = part.views[0]
    (effect,) = view.effects
    assert (effect.dimension, effect.move.high_at, view.best, part.protocol) == (
        "scenario.stages",
        2,
        None,
        "",
    )
    assert effect.best is not None
    assert effect.best.held == {"idle": 2}
    assert part.held_by == f"{toy}[idle=2]"
    assert view.heat is not None
    assert (view.heat.down, view.heat.across) == ("idle", "scenario.stages")
    assert "a curve, not a ranking" in " ".join(sentences(part))
    assert not any(
        "place" in table.header or "best" in title.partition("others")[0] for title, table in tables(part)
    )


def test_random_settings_have_rank_correlations(toy: str) -> None:
    definition = asked(f"{toy}[shift=2.0..4.0,idle=[1,2],broken=[true,false]]", seeds=2, drawn=12)
    found = told(definition, hill)
    shift, idle, broken = view_of(found).scatters
    assert len(shift.figures) == 12
    expected = stats.spearmanr(shift.values, shift.figures)
    assert (shift.rho, shift.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert shift.rho < -0.9
    assert shift.verdict == "falls with it"
    assert math.isnan(broken.rho)  # true and false have no order
    assert sum(interval.n for interval in broken.levels.values()) == 12
    assert [shift.p_holm, idle.p_holm] == pytest.approx(statistics.holm([shift.p, idle.p]).tolist())
    assert not view_of(found).effects


def test_strategy_and_scenario_drawn_together_make_one_part(toy: str) -> None:
    definition = asked(f"{toy}[shift=0.1..1]", f"{BLOBS}[items=5..50]", drawn=6)

    def figure(scenario: str, _: Mapping[str, Any], seed: int) -> float:
        return float(re.findall(r"items=(\d+)", scenario)[0]) / 100 + 0.01 * seed

    (part,) = told(definition, figure).parts
    shift, items = part.views[0].scatters
    assert (shift.dimension, items.dimension, items.rho) == ("shift", "scenario.items", 1.0)
    assert part.views[0].best is None


def test_one_seed_decides_nothing(toy: str) -> None:
    found = told(asked(f"{toy}[shift=[1,2],idle=[1,2]]", seeds=1), hill)
    assert view_of(found).effects[0].move.verdict == "cannot decide"
    assert "cannot decide" in " ".join(sentences(found.parts[0]))
    assert any("one seed has no spread" in note for note in notes(found))


def test_every_report_with_a_best_warns_that_it_was_picked_on_the_test_set(
    grid: tuple[Definition, Report], toy: str
) -> None:
    warning = "selection on the test set"
    for text in (markdown(grid[1]), html(grid[1], sensitivity_figure(grid[1])), " ".join(notes(grid[1]))):
        assert warning in text
        assert "must not be reported as the method" in text


def test_records_that_do_not_fit_the_definition_are_refused(grid: tuple[Definition, Report]) -> None:
    definition, _ = grid
    with pytest.raises(ValueError, match="zip"):
        report_of(definition.model_dump(mode="json"), recorded(definition, hill)[:-1])


# --- files --------------------------------------------------------------------------------------------------


def test_the_files_have_the_figures(grid: tuple[Definition, Report], tmp_path: Path) -> None:
    _, report = grid
    assert {path.name for path in write_report(report, tmp_path / "a")} == {
        "sweep.md",
        "sweep.csv",
        "sweep.tex",
        "sensitivity.png",
        "sweep.html",
    }
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    curve = [row for row in rows if (row["what"], row["dimension"]) == ("mean over the others", "shift")]
    assert [row["value"] for row in curve] == ["1", "2", "3"]
    assert float(curve[1]["mean"]) == pytest.approx(float((at(2, 1) + at(2, 2)).mean() / 2))
    assert sum(row["what"] == "setting" for row in rows) == 7
    assert {"lower bound", "upper bound", "move, others at best", "others at best"} <= {
        row["what"] for row in rows
    }
    text = latex(report)
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(tables(report.parts[0]))
    page = (tmp_path / "a" / "sweep.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="(?!data:|#)([^"]*)', page)) == {
        "sweep.md",
        "sweep.csv",
        "sweep.tex",
        "sensitivity.png",
    }
    assert page.count("<script") == 1  # the theme's


def test_the_plot_is_a_picture_with_a_panel_per_dimension(grid: tuple[Definition, Report]) -> None:
    from matplotlib.image import imread

    picture = imread(io.BytesIO(canvas.png(sensitivity_figure(grid[1]))))
    wide = imread(
        io.BytesIO(canvas.png(sensitivity_figure(told(asked("replay[lr=[0.1,1]]", seeds=2), lambda *_: 0.5))))
    )
    assert picture.shape[1] > 1.5 * wide.shape[1]  # two curves and a heat map beside one curve


def test_a_plot_of_many_parts_and_dimensions_is_no_larger_than_any_picture(
    grid: tuple[Definition, Report],
) -> None:
    part = grid[1].parts[0]
    wide, narrow = (
        replace(part.views[0], effects=part.views[0].effects[:1] * count, heat=None) for count in (20, 1)
    )
    for view, parts in ((wide, 1), (narrow, 30)):
        with Image.open(
            io.BytesIO(
                canvas.png(
                    sensitivity_figure(replace(grid[1], parts=(replace(part, views=(view,)),) * parts))
                )
            )
        ) as picture:
            assert max(picture.size) <= canvas.LONGEST_SIDE
            assert picture.size[0] * picture.size[1] <= canvas.MOST_PIXELS


def test_what_a_page_shows_is_escaped(toy: str) -> None:
    found = told(asked(f"{toy}[shift=[1,2]]"), lambda *_: math.nan)
    failure = found.failures[0]
    evil = type(found)(
        title=found.title,
        seeds=found.seeds,
        drawn=None,
        parts=found.parts,
        failures=(
            type(failure)(
                scenario="a", setting="b", seed=0, status="failed", reason="<script>alert(1)</script>|x"
            ),
        ),
    )
    assert "<script>alert" not in html(evil, sensitivity_figure(evil))
    assert "<script>" not in markdown(evil)


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sweep_from_end_to_end(call_owb: Owb, toy: str, here: Path, warm_ray: None) -> None:
    args = ("sweep", f"{toy}[shift=[0,2],idle=[1,2]]", "-s", BLOBS, "--no-bounds", "--workers", "1")
    first = call_owb(*args, "--seeds", "3", "--out", "told")
    assert first.code == 0, first.err
    assert f"grid of {toy}[shift=[0,2],idle=[1,2]]: 3 seeds" in first.out
    assert "selection on the test set" in first.out
    (idle,) = (
        line for line in first.out.splitlines() if line.startswith("idle ") and "changes nothing" in line
    )
    assert idle
    assert (here / "told" / "sweep.html").is_file()

    again = call_owb(*args, "--seeds", "3", "--json")
    assert "recorded" not in again.err
    shift = again.json["parts"][0]["views"][0]["effects"][0]
    by_label = accuracies(here)
    means = [np.mean([by_label[f"{toy}[shift={value},idle={idle}]"] for idle in (1, 2)]) for value in (0, 2)]
    assert shift["move"]["size"] == pytest.approx(means[0] - means[1])

    enlarged = call_owb("sweep", f"{toy}[shift=[0,2,4],idle=[1,2]]", *args[2:], "--seeds", "3")
    assert "12 cached, 6 done" in enlarged.err

    records = Store(str(here / "owb-store")).records("sweep-toy")
    assert len({record.key for record in records}) == 18


def accuracies(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in Store(str(folder / "owb-store")).records("sweep-toy"):
        found.setdefault(record.strategy, []).append(record.metrics["average_accuracy"])
    return found


def test_a_report_is_drawn_again_from_the_store_alone(
    call_owb: Owb, toy: str, here: Path, warm_ray: None
) -> None:
    from harness.studies.study import records_of, studies

    args = (
        "sweep",
        f"{toy}[shift=0..2]",
        "-s",
        f"{BLOBS}[items=5..20]",
        "--random",
        "3",
        "--seeds",
        "1",
        "--no-bounds",
        "--workers",
        "1",
    )
    first = call_owb(*args, "--json")
    store = Store(str(here / "owb-store"))
    (kept,) = studies(store, "sweep-toy")
    assert (kept.study.kind, len(kept.cells)) == ("sweep", 3)
    again = report_of(kept.study.definition, records_of(store, kept))
    assert again.parts[0].views[0].scatters[0].figures == tuple(
        first.json["parts"][0]["views"][0]["scatters"][0]["figures"]
    )


def test_what_fails_is_marked_and_the_rest_is_told(
    call_owb: Owb, toy: str, here: Path, warm_ray: None
) -> None:
    said = call_owb(
        "sweep", f"{toy}[broken=[false,true]]", "-s", BLOBS, "--seeds", "2", "--no-bounds", "--workers", "1"
    )
    assert said.code == 1
    assert re.search(r"^true +failed", said.out, flags=re.MULTILINE)
    assert said.out.partition("cells without a figure")[2].count("broken on purpose") == 2


def test_a_plan_runs_nothing_and_is_one_document(call_owb: Owb, toy: str, here: Path) -> None:
    args = (
        "sweep",
        f"{toy}[shift=0..2]",
        "-s",
        f"{BLOBS}[items=5..20]",
        "--random",
        "3",
        "--seeds",
        "2",
        "--no-bounds",
        "--plan",
    )
    assert sum(map(int, re.findall(r"(\d+) of \d+ cells would run", call_owb(*args).out))) == 6
    assert len(call_owb(*args, "--json").json) == 6
    assert not (here / "owb-store").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ("TOY[idle=[6,7,8]]",),
            "nothing is run, since some settings cannot be: TOY[idle=7]: idle may not be 7; leave such values out",
        ),
        (("TOY[idle=[1,2]]", "-s", "blob[stages=[1,2]]"), "unknown scenario 'blob'"),
        (("TOY",), "nothing varies in"),
        (("TOY[idle=[1,11]]",), "idle should be less than or equal to 10, got 11"),
        (("TOY[idle=0..5]", "--random", "9"), "9 settings that differ were asked for"),
        (("TOY[idle=0..5]", "--search", "asha", "--random", "9"), "--search chooses its own settings"),
    ],
)
def test_nothing_runs_after_a_mistake(
    call_owb: Owb, toy: str, here: Path, args: tuple[str, ...], told: str
) -> None:
    said = call_owb(
        "sweep", *(word.replace("TOY", toy) for word in args), *(() if "-s" in args else ("-s", BLOBS))
    )
    assert said.code == 2
    assert told.replace("TOY", toy) in said.err
    assert not (here / "owb-store").exists()


def test_parameters_that_work_together_move_the_figure_at_the_best_and_not_on_average(toy: str) -> None:
    """An exchange: shift helps by as much where idle=2 as it hurts where idle=1."""
    definition = asked(f"{toy}[shift=[1,2],idle=[1,2]]", seeds=5)

    def figure(_: str, values: Mapping[str, Any], seed: int) -> float:
        shift, idle = int(values["shift"]), int(values["idle"])
        sign = 1 if (shift == 2) == (idle == 2) else -1
        wobble = (0.01 if seed % 2 else -0.01) * (shift == 2)
        return 0.5 + 0.2 * sign + wobble + float(NOISE[seed, 2 * shift + idle])

    shift, _ = view_of(told(definition, figure)).effects
    assert shift.move.verdict == "cannot decide"
    assert shift.best_move is not None
    assert (shift.best_move.verdict, round(shift.best_move.size, 1)) == ("moves it", 0.4)
