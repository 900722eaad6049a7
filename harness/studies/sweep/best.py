"""Which setting is best by these figures, and whether the seeds can tell it from the default and from the
second.

The default was named before anything ran, so what is said against it is Holm-corrected over all settings that
might have come out best. The
second, like the best, was picked by the same figures: there the correction is over all pairs
(`statistics.compare_all` says why).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness import statistics
from harness.statistics import Better, Comparison, Interval
from harness.statistics.series import Floats
from harness.studies.sweep.curves import LEVEL
from harness.studies.sweep.measured import Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best of the settings that have a figure under every seed.

    default, second: labels, empty where there is none.  vs_default, vs_second: the best minus that one, p
    corrected.
    pairs: over how many.  tied: the settings that cannot be told from the best, itself not counted.
    """

    label: str
    figure: Interval
    settings: int
    default: str
    vs_default: Comparison | None
    second: str
    vs_second: Comparison | None
    pairs: int
    tied: tuple[str, ...]

    @property
    def is_default(self) -> bool:
        """Whether the best is the default itself."""
        return self.label == self.default


def best_of(points: Sequence[Point], *, better: Better) -> Best | None:
    """Return the best setting by the mean over seeds; None where no setting has every seed."""
    series = {point.setting.label: point.figures for point in points if np.isfinite(point.figures).all()}
    if not series:
        return None
    order = ranked(series, better=better)
    best = order[0]
    default = next((point.setting.label for point in points if point.setting.is_default), "")
    compared = {
        other: found
        for (one, other), found in statistics.compare_all(series, level=LEVEL).items()
        if one == best
    }
    return Best(
        label=best,
        figure=statistics.t_interval(series[best], level=LEVEL),
        settings=len(series),
        default=default,
        vs_default=_against_default(series, default, best) if default in series and default != best else None,
        second=order[1] if len(order) > 1 else "",
        vs_second=compared[order[1]] if len(order) > 1 else None,
        pairs=len(series) * (len(series) - 1) // 2,
        tied=tuple(label for label in order[1:] if not compared[label].p <= 1 - LEVEL),
    )


def ranked(series: Mapping[str, Floats], *, better: Better) -> list[str]:
    """Return the labels, best mean first; what differs by rounding keeps its order."""
    sign = -1 if better == "higher" else 1
    return sorted(series, key=lambda label: sign * round(float(series[label].mean()), 12))


def _against_default(series: Mapping[str, Floats], default: str, best: str) -> Comparison:
    others = [label for label in series if label != default]
    raw = {label: statistics.paired_t(series[label], series[default], level=LEVEL) for label in others}
    corrected = dict(zip(others, statistics.holm([one.p for one in raw.values()]), strict=True))
    return raw[best]._replace(p=float(corrected[best]))


__all__ = ["Best", "best_of", "ranked"]
