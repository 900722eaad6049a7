r"""Rankings as LaTeX tables in the booktabs style, one per protocol; every text of a board is escaped, so that none becomes a command.

>>> escaped(r"a_b & \input{x}")
'a\\_b \\& \\textbackslash{}input\\{x\\}'
"""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.rank import Ranking
from leaderboards.render import Table, ranking_table

MOST_METRICS = 4
"""Metrics that fit beside each other on a page."""

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
}  # fmt: skip


def latex(rankings: Sequence[Ranking]) -> str:
    r"""Return a table per ranking; the group that leads is set in bold. Needs \usepackage{booktabs}, and T1 fonts for quotes."""
    return "% Needs \\usepackage[T1]{fontenc} and \\usepackage{booktabs}.\n\n" + "\n".join(_floating(ranking) for ranking in rankings)


def escaped(text: str) -> str:
    """Return `text` on one line with every special letter of LaTeX as itself; letters that do not print are left out."""
    line = "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
    return "".join(_ESCAPES.get(letter, letter) for letter in line)


def _floating(ranking: Ranking) -> str:
    table = ranking_table(ranking, metrics=[metric.name for metric in ranking.metrics[:MOST_METRICS]])
    leading = table.rows[0][0] if ranking.best else None
    caption = f"{ranking.scenario}, {len(ranking.seeds)} seeds, protocol {ranking.protocol_hash[:12]}; 95 % intervals over seeds."
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\label{{tab:{ranking.protocol_hash[:12] if ranking.protocol_hash.isalnum() else 'board'}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(table.header) - 2)}}}",
            r"\toprule",
            _row(table.header),
            r"\midrule",
            *_body(table, leading),
            r"\bottomrule",
            r"\end{tabular}",
            "\\end{table}\n",
        ]
    )


def _body(table: Table, leading: str | None) -> list[str]:
    """Return the rows, a rule between contenders and bounds."""
    lines: list[str] = []
    ruled = False
    for row in table.rows:
        if row[0].endswith("bound") and lines and not ruled:
            lines.append(r"\midrule")
            ruled = True
        lines.append(_row([row[0], row[1], *row[2:]], bold=row[0] == leading and not row[0].startswith(("?", "-"))))
    return lines


def _row(cells: Sequence[str], *, bold: bool = False) -> str:
    texts = [escaped(cell) for cell in cells]
    if bold:
        texts[1] = rf"\textbf{{{texts[1]}}}"
    return " & ".join(texts) + r" \\"


__all__ = ["MOST_METRICS", "escaped", "latex"]
