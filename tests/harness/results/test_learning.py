"""How strategies learn, as a table and as small multiples."""

from __future__ import annotations

import math

from harness.results.learning import how_it_learns, largest_change, names_of, plot
from harness.store.probe_plots import end_to_end, multiples, stage_lengths

SEEDS = {
    "a": [
        {"nc1@asked": [(0, 0, 1.0), (0, 10, 0.9), (0, 30, 0.2), (1, 0, 0.3), (1, 5, 0.25)]},
        {"nc1@asked": [(0, 0, 1.0), (0, 10, 0.1), (0, 30, 0.2), (1, 0, 0.3), (1, 5, 0.75)]},
    ],
    "b": [{"nc1@asked": [(0, 30, 0.5), (0, 0, 0.5)], "accuracy@asked": [(0, 0, math.nan)]}],
}


def test_a_row_says_the_last_value_and_the_look_of_the_largest_change() -> None:
    table = how_it_learns(SEEDS)
    assert table.header == ["strategy", "figure", "last", "turns at", "seeds"]
    # seed 0 falls most to step 30, seed 1 to step 10; b changes nowhere, and has no number for accuracy
    assert table.rows == [["a", "nc1, asked", "0.5", "20", "2"], ["b", "nc1, asked", "0.5", "", "1"]]


def test_the_largest_change_is_the_first_of_several_and_none_where_there_is_one_look() -> None:
    assert largest_change([(0, 0.0), (4, 1.0), (9, 0.0)]) == 4
    assert math.isnan(largest_change([(3, 1.0)]))


def test_stages_lie_end_to_end() -> None:
    rows = SEEDS["a"][0]["nc1@asked"]
    assert [at for at, _ in end_to_end(rows, stage_lengths([rows]))] == [0, 10, 30, 30, 35]


def test_a_plot_per_figure_has_a_line_per_strategy_in_its_own_colour_and_accuracy_comes_first() -> None:
    figure = plot(SEEDS, "a title")
    titled = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in titled] == ["accuracy, asked", "nc1, asked"]
    colours = {
        line.get_label(): line.get_color() for line in titled[1].get_lines() if line.get_label() in "ab"
    }
    assert colours.keys() == {"a", "b"} and colours["a"] != colours["b"]
    a = next(line for line in titled[1].get_lines() if line.get_label() == "a")
    assert a.get_xydata().tolist() == [[0, 1.0], [10, 0.5], [30, 0.2], [30, 0.3], [35, 0.5]]
    assert names_of(SEEDS) == ["nc1@asked", "accuracy@asked"]
    assert multiples({}, title="nothing").axes
