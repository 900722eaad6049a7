"""Pictures of a cell: what is drawn is what was scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from harness import figures
from harness.contracts import Scores

SCORES = Scores(final={}, per_stage={"all": [1.0, 0.8], "old": [np.nan, 0.9], "new": [1, 0.4]}, probes={"all": [(0, 5, 0.3), (0, 9, 0.6)]},
                matrices={"accuracy": np.array([[1.0, np.nan], [0.9, 0.4]])})  # fmt: skip


def test_a_cell_gets_its_matrix_its_curve_and_its_stages(tmp_path: Path) -> None:
    made = figures.draw(SCORES, tmp_path, title="a cell")
    assert sorted(path.name for path in made) == ["accuracy_matrix.png", "all_curve.png", "stages.png"]
    for path in made:
        with Image.open(path) as image:
            assert min(image.size) > 100


def test_stage_lines_draw_the_first_five_figures_of_every_run_or_those_named() -> None:
    many = {f"f{number}": [0.1 * number] * 3 for number in range(7)}
    panels = figures.stage_lines([many, many], ["one", "two"], title="").axes
    assert [len(panel.lines) for panel in panels] == [5, 5]
    assert [panel.get_title() for panel in panels] == ["one", "two"]
    (panel,) = figures.stage_lines([SCORES.per_stage], [""], title="a cell", names=["new"]).axes
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), [1.0, 0.4])


def test_a_strip_shows_every_case_as_it_is_with_its_caption() -> None:
    cases = np.random.default_rng(0).random((2, 3, 4, 5))
    drawn = figures.strip(cases, ["brick: best", "brick: worst"], title="a cell").axes
    assert len(drawn) == 6
    np.testing.assert_array_equal(drawn[4].images[0].get_array(), cases[1, 1])
    assert [axes.get_title() for axes in drawn[:3]] == ["image", "mask", "map"]
    assert [drawn[row].get_ylabel() for row in (0, 3)] == ["brick: best", "brick: worst"]
