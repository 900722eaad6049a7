"""What the gate found: one part per stage, all problems at once, the same bytes wherever it runs.

Nothing in a report depends on the machine: no times, no paths, no host. What the machine lacks is said beside
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.results.printable import printable

NAMES = (
    "form",
    "schema",
    "integrity",
    "completeness",
    "metrics",
    "plausibility",
    "source",
    "conformance",
    "re-run",
    "statistics",
)

Verdict = Literal["fine", "refused", "not run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one stage found. `skipped` says why it did not run; `notes` inform and never refuse."""

    number: int
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def name(self) -> str:
        """The stage's name."""
        return NAMES[self.number]

    @property
    def verdict(self) -> Verdict:
        """How the stage ended."""
        return "refused" if self.problems else "not run" if self.skipped else "fine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All stages. `name`, `board` and `digest` are empty where the submission could not be read."""

    name: str
    board: str
    digest: str
    salt: str
    parts: tuple[Part, ...]

    @property
    def refused(self) -> bool:
        """Whether any stage found a problem."""
        return any(part.problems for part in self.parts)

    @property
    def ran_code(self) -> bool:
        """Whether submitted code was run."""
        return any(part.name == "conformance" and not part.skipped for part in self.parts)

    def text(self) -> str:
        """Return the report for people."""
        return text_of(self.content())

    def content(self) -> dict[str, Any]:
        """Return the report for machines."""
        parts = [
            {
                "stage": part.number,
                "name": part.name,
                "verdict": part.verdict,
                "problems": list(part.problems),
                "notes": list(part.notes),
                "skipped": part.skipped,
            }
            for part in self.parts
        ]
        return {
            "name": self.name,
            "board": self.board,
            "digest": self.digest,
            "salt": self.salt,
            "refused": self.refused,
            "stages": parts,
        }


def text_of(content: Mapping[str, Any]) -> str:
    """Return for people what `Report.content` says to machines."""
    read = f"{content['name']} for board {content['board']}, digest {content['digest'][:12]}"
    salt = f"; salt {content['salt']}" if content["salt"] else ""
    lines = [f"Submission: {read if content['name'] else 'it cannot be read'}{salt}", ""]
    for stage in content["stages"]:
        why = f": {stage['skipped']}" if stage["skipped"] else ""
        lines.append(f"{stage['stage']} {stage['name']:<13} {stage['verdict']}{why}")
        lines += [f"    - {problem}" for problem in stage["problems"]]
        lines += [f"    {note}" for note in stage["notes"]]
    found = sum(len(stage["problems"]) for stage in content["stages"])
    unseen = ", ".join(stage["name"] for stage in content["stages"] if stage["skipped"])
    fine = f"nothing to object to{f', but not looked at: {unseen}' if unseen else ''}"
    return "\n".join([*lines, "", f"Refused: {counted(found, 'problem')}." if found else f"Passed: {fine}."])


def part(number: int, problems: Iterable[str], notes: Sequence[str] = ()) -> Part:
    """Return what a stage found, each problem once and on one line, with nothing that a terminal or a web
    page would act on.
    """
    return Part(
        number=number, problems=tuple(dict.fromkeys(map(plain, problems))), notes=tuple(map(plain, notes))
    )


def plain(text: str) -> str:
    """Return `text` on one line of at most 600 characters that may be shown: it may quote what a stranger wrote."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= 600 else f"{line[:597]}..."


def counted(number: int, noun: str) -> str:
    """Return "1 problem" or "2 problems"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


__all__ = ["NAMES", "Part", "Report", "Verdict", "counted", "part", "plain", "text_of"]
