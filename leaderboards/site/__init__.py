"""Boards as pages: one self-contained HTML file per board beside its Markdown, CSV and LaTeX, and an index
over all of them.

`report` gathers what a page says, `tables`, `figures` and `curves` put it into rows and pictures, `pages`
renders it, `build` writes it; `badge` and `feed` are for others to link to. `plain` is the page of an ablation
or a sweep.
"""

from harness.results.write_files import write_page
from leaderboards.site.badge import badge
from leaderboards.site.build import BADGES, build_boards, build_experiment, write_index
from leaderboards.site.pages import page_of_records
from leaderboards.site.report import report_of_board, report_of_records

__all__ = [
    "BADGES",
    "badge",
    "build_boards",
    "build_experiment",
    "page_of_records",
    "report_of_board",
    "report_of_records",
    "write_index",
    "write_page",
]
