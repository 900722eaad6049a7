"""Sizes said as text: `5x10`, `19+19+22`, `400`, `80%`, `all`, `87/7/3/3;70/20/10;90/10;100`."""

from __future__ import annotations

from harness.errors import UserError


def stage_sizes(text: str, name: str) -> list[int]:
    """Return the new classes per stage that `text` says: 5x10, or 19+19+22."""
    times, cross, size = text.partition("x")
    parts = [size] * int(times) if cross and times.isdecimal() else text.split("+")
    if not parts or not all(part.isdecimal() for part in parts):
        raise ValueError(
            f"{name} should be stages x classes such as 5x10, or one number per stage such as 19+19+22, got {text!r}"
        )
    return [int(part) for part in parts]


def amounts(text: str, name: str) -> list[str]:
    """Return the amounts that `text` says, unread: a number, a share such as 80%, or all. Raises ValueError
    for anything else.
    """
    parts = text.split("+")
    for part in parts:
        if not (part == "all" or part.isdecimal() or (part.endswith("%") and _is_share(part[:-1]))):
            raise ValueError(f"{name} should be a number of items, a share such as 80%, or all, got {part!r}")
    return parts


def per_stage(text: str, stages: int, name: str) -> list[str]:
    """Return one amount for each of `stages`; a single one counts for all. Raises `UserError` where the
    numbers differ.
    """
    parts = amounts(text, name)
    if len(parts) not in (1, stages):
        raise UserError(f"{name}={text} says {len(parts)} amounts for {stages} stages")
    return parts * stages if len(parts) == 1 else parts


def share_rows(text: str) -> list[list[float]]:
    """Return the shares in per cent, a row for each cohort of classes. Raises ValueError for what is no share
    or more than a whole.
    """
    rows = [row.strip().split("/") for row in text.split(";")] if text else []
    if not all(_is_share(part) for row in rows for part in row):
        raise ValueError(f"shares should be per cent such as 87/7/3/3;70/20/10;90/10;100, got {text!r}")
    shares = [[float(part) for part in row] for row in rows]
    if any(sum(row) > 100 + 1e-9 for row in shares):
        raise ValueError(f"no row of shares can exceed 100 per cent, got {text!r}")
    return shares


def _is_share(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal() and float(text) <= 100
