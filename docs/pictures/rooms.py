"""Draw the rooms of the source tree: python docs/pictures/rooms.py

Every room lies above what it may import. The picture is written as SVG, whose text stays text: it can be
searched, and needs no library to draw or to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

PICTURE = Path(__file__).with_name("rooms.svg")
WIDTH, HEIGHT = 960, 640
HARNESS, PLUGIN, PUBLISHED, SURFACE = "#dbe7f6", "#e3f0dc", "#f6e7d6", "#f7f0c4"


class Room(NamedTuple):
    """A box: the folder it stands for, what lies in it, its place and size in pixels, its colour."""

    folder: str
    holds: str
    x: int
    y: int
    width: int
    height: int
    colour: str


def _row(y: int, *rooms: tuple[str, str], x: int = 240, width: int = 480, height: int = 44) -> list[Room]:
    """Return rooms of the harness that lie side by side, on one floor."""
    each = (width - 8 * (len(rooms) - 1)) // len(rooms)
    return [
        Room(folder, holds, x + place * (each + 8), y, each, height, HARNESS)
        for place, (folder, holds) in enumerate(rooms)
    ]


ROOMS: Sequence[Room] = [
    Room("leaderboards/cli", "board, compare, submit, verify, demo", 240, 16, 480, 40, PUBLISHED),
    Room("leaderboards/gate", "judges a submission", 240, 62, 154, 40, PUBLISHED),
    Room("leaderboards/site", "pages", 403, 62, 154, 40, PUBLISHED),
    Room("leaderboards/papers", "published tables", 566, 62, 154, 40, PUBLISHED),
    Room("leaderboards/publishing", "the board folder", 240, 108, 480, 40, PUBLISHED),
    *_row(168, ("harness/cli", "the verbs of owb; the only room that prints")),
    *_row(218, ("harness/studies", "ablation, sweep, search"), ("harness/api", "from Python")),
    *_row(268, ("harness/sandbox", "code of strangers"), ("harness/results", "ranking, comparison, tables")),
    *_row(318, ("harness/execution", "many cells"), ("harness/checks", "owb check")),
    *_row(368, ("harness/store", "MLflow, stored predictions")),
    *_row(418, ("harness/processes", "a process per cell"), ("harness/protocol", "suites, cells, keys")),
    *_row(468, ("harness/statistics", "intervals, tests"), ("harness/cell", "label firewall, stages")),
    Room("scenarios/cli", "owb data", 16, 268, 204, 44, PLUGIN),
    Room(
        "scenarios/<family>",
        "anomaly, cgcd, class_incremental, grokking, ncd, noisy_labels",
        16,
        318,
        204,
        94,
        PLUGIN,
    ),
    Room("scenarios/model_selection", "validation splits", 16, 418, 204, 44, PLUGIN),
    Room("scenarios/datasets, shared", "data; splits, noise", 16, 468, 204, 44, PLUGIN),
    Room("strategies/<family>", "the same names, and avalanche_adapter", 740, 318, 204, 94, PLUGIN),
    Room(
        "strategies/toolkit, ood_scores",
        "assignment, components: what families share in training, by name",
        740,
        418,
        204,
        94,
        PLUGIN,
    ),
    Room(
        "harness/*.py, harness/metrics, harness/probes",
        "the plugin surface: contracts, parameters, selections, plugins, errors, seeds, weights, clustering",
        16,
        528,
        928,
        44,
        SURFACE,
    ),
    Room("harness/code", "which code a plugin is", 16, 580, 928, 44, HARNESS),
]
"""Top to bottom; a room may import what lies below it, scenarios and strategies only the two lowest of harness."""


def _lines(text: str, letters: int) -> list[str]:
    """Break `text` between words into lines of at most `letters`."""
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if len(line) > letters:
            lines.append(word)
        else:
            lines[-1] = line
    return lines


def drawn() -> str:
    """Return the picture."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" text-anchor="middle" role="img">',
        "<title>The rooms of the source tree: each may import what lies below it</title>",
    ]
    for room in ROOMS:
        middle = room.x + room.width // 2
        lines = _lines(room.holds, room.width // 7)
        top = room.y + room.height // 2 - 8 * len(lines) + 5
        parts.append(
            f'<rect x="{room.x}" y="{room.y}" width="{room.width}" height="{room.height}" rx="4" '
            f'fill="{room.colour}" stroke="#555555"/>'
        )
        parts.append(
            f'<text x="{middle}" y="{top}" font-size="13" font-weight="bold" fill="#111111">'
            f"{escape(room.folder)}</text>"
        )
        parts += [
            f'<text x="{middle}" y="{top + 16 * (place + 1)}" font-size="12" fill="#333333">{escape(line)}</text>'
            for place, line in enumerate(lines)
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
