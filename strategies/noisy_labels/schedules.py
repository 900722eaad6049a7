"""Learning rates over a stage by name: `constant`, `cosine[cycles=15,floor=0.05]`,
`steps[at=40+80,of=120,factor=0.01]`.

A schedule knows the share of training that is done, and no epochs; where a publication counts them, `of` says
out of how many.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator

from harness.errors import UserError
from harness.syntax import chosen
from strategies.toolkit.training.loop import Schedule, constant, cosine, cosine_to, stepped


def schedule_of(text: str) -> Schedule:
    """Return the schedule that `text` selects.

    Raises:
        UserError: no schedule of that name, a parameter it does not have, or a value out of range.
    """
    schedule: Schedule = chosen(
        "schedule", text, {"constant": _constant, "cosine": _cosine, "steps": _steps}
    )()
    return schedule


def _known(text: str) -> str:
    if text:
        schedule_of(text)
    return text


Named = Annotated[str, AfterValidator(_known)]
"""A parameter that names a schedule, or none where it is empty; a wrong one is refused before anything runs."""


def _constant() -> Schedule:
    return constant


def _cosine(*, cycles: int = 1, floor: float = 0.0) -> Schedule:
    """Return half a cosine from one to `floor`, begun again `cycles` times in equal parts (Loshchilov and
    Hutter 2017).

    Args:
        cycles: how often it falls.
        floor: share of the learning rate at its end.
    """
    _check("cycles", cycles, 1, math.inf)
    _check("floor", floor, 0, 1)
    if (cycles, floor) == (1, 0):
        return cosine
    falling = cosine_to(floor)
    return lambda done: falling(math.fmod(done * cycles + 1e-9, 1.0) - 1e-9)


def _steps(*, at: float | str = 0.75, factor: float = 0.1, of: float = 1.0) -> Schedule:
    """Return a rate that is multiplied by `factor` at every place of `at`, such as 40+80, counted so that the
    training ends at `of`.
    """
    _check("factor", factor, 0, math.inf)
    try:
        places = [float(part) for part in str(at).split("+")]
    except ValueError:
        raise UserError(
            f"schedule steps needs numbers joined by + for at, such as 40+80, got {at!r}"
        ) from None
    for place in places:
        _check("at", place, 0, of)
    return stepped(*((place / of, factor) for place in places))


def _check(name: str, value: float, least: float, most: float) -> None:
    if isinstance(value, (bool, str)) or not least <= value <= most:
        raise UserError(f"schedule needs {name} between {least:g} and {most:g}, got {value!r}")
