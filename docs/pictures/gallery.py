"""Draw what docs/gallery.md shows beside the other pictures: python docs/pictures/gallery.py

Everything comes from committed boards. The pictures of a board's page are drawn by the page itself, so this needs
Chromium (apt-get install chromium).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from drawing import BOARDS, HERE, save, save_drawing, scores_of

from harness.store import line_plots, matrix_plots
from harness.studies.ablation.forest import forest_figure
from harness.studies.space import read_space
from harness.studies.sweep import report_of
from harness.studies.sweep.plot import sensitivity_figure
from harness.studies.sweep.request import definition_of
from leaderboards.publishing.ablation_on_board import board_report
from leaderboards.publishing.board import read_board
from leaderboards.site.badge import badge
from leaderboards.site.build import build_boards

BOARD = "class-incremental"
SWEEP = "ncd-alpha", "cr-kd[alpha=[0.005,0.02,0.05,0.1,0.2]]"
PAGE = (
    "intervals-1",
    "cost-1",
    "curves-1",
    "matrices-1",
    "over-aggregate",
    "over-ranks",
    "over-beats",
    "over-profile",
)
"""The pictures of the board's page, by their names there."""
PAGE_INKS = {"rgb(22, 25, 29)": "currentColor", "rgb(213, 218, 225)": "#868c96"}
"""Text and lines of the light page, which the picture is drawn on."""


def main() -> None:
    """Write every picture."""
    of_cells()
    of_studies()
    (HERE / "badge.svg").write_text(
        badge(read_board(BOARDS / BOARD).rankings(), BOARD, "replay"), encoding="utf-8"
    )
    for name, drawing in of_a_page():
        save_drawing(drawing, f"page-{name.removesuffix('-1')}")


def of_cells() -> None:
    """Write accuracy matrices, a curve of sizes, and images with their maps."""
    for label in ("fine-tune", "replay"):
        scores = scores_of(BOARD, label, scenario="class-incremental[dataset=mnist5k]")
        save(matrix_plots.heat_map(scores.matrices["accuracy"], title=label, quantity="accuracy"), label)
    probes = scores_of("grokking-spectra", "grok-adamw[weight_decay=15]").probes
    save(
        line_plots.curve(probes["weight_norm"], title="weight decay 15", quantity="weight_norm"),
        "weight-norm",
    )
    cases, captions = next(iter(scores_of("anomaly", "inp-former").strips.values()))
    save(matrix_plots.strip(cases[:4], captions[:4], title="inp-former"), "anomaly-strip")


def of_studies() -> None:
    """Write a forest plot and a sensitivity plot."""
    effects = board_report(read_board(BOARDS / "cr-kd-ablation"))
    assert effects is not None
    save(forest_figure(effects), "forest")
    board = read_board(BOARDS / SWEEP[0])
    (protocol,) = board.header.protocols
    seeds = board.header.suite.seeds
    definition = definition_of(
        read_space("strategy", SWEEP[1]), [read_space("scenario", protocol.label)], seeds=seeds, bounds=False
    )
    records = {(record.strategy, record.seed): record for record in board.records(protocol)}
    labels = [label for block in definition["blocks"] for label in block["strategies"]]
    found = report_of(definition, [records[label, seed] for seed in range(seeds) for label in labels])
    save(sensitivity_figure(found), "sensitivity")


def of_a_page() -> Iterator[tuple[str, str]]:
    """Yield the pictures of a board's page as it draws them, by their names."""
    sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))
    from browser import Browser

    with tempfile.TemporaryDirectory() as folder:
        (page,) = build_boards([BOARDS / BOARD], Path(folder) / "site")
        with Browser(Path(folder) / "profile") as browser:
            browser.open(page / "index.html", width=760)
            browser.draw_all()
            for name in PAGE:
                holder = f"document.querySelector('[data-picture=\"{name}\"]')"
                size = f"{{format: 'svg', width: 640, height: {holder}.clientHeight}}"
                drawing = unquote(browser.ask(f"Plotly.toImage({holder}, {size})").partition(",")[2])
                for ink, own in PAGE_INKS.items():
                    drawing = drawing.replace(ink, own)
                yield name, drawing


if __name__ == "__main__":
    main()
