"""Formats of numbers: figures with their intervals, differences, p values, times, cells of a CSV file. Boards,
ablations and sweeps print by these.

A figure is printed with the digits its interval justifies: one significant digit of the half-width, two where
that digit is 1 or 2. A time that may not be reached is printed as its median with how many reached it, "300 (4
of 5)", or as "not reached (2 of 5)".

>>> figure(Interval(0.7143, 0.7051, 0.7235, 5), 100)
'71.4 ± 0.9'
"""

from __future__ import annotations

import math

from harness.statistics import Comparison, Interval, Times


def figure(interval: Interval | Comparison, factor: float) -> str:
    """Return `mean ± half-width`, both times `factor`, with justified digits; the bare mean where there is no
    interval.
    """
    mean = interval[0] * factor
    half = (interval.high - interval.low) / 2 * factor
    if not math.isfinite(mean):
        return ""
    if not math.isfinite(half):
        return _signless(f"{mean:.{1 if factor == 100 else 3}f}")
    digits = _decimals(half, 1 if factor == 100 else 3)
    return f"{_signless(f'{mean:.{digits}f}')} ± {half:.{digits}f}"


def bounds(found: Comparison, factor: float) -> str:
    """Return a difference with the ends of its interval, both times `factor`, with two significant digits of
    the half-width; the bare difference where there is no interval.

    >>> bounds(Comparison(0.0312, 0.0121, 0.0503, 0.01, 5), 100)
    '+3.1 [1.2, 5.0]'
    """
    half = (found.high - found.low) / 2 * factor
    default = 1 if factor == 100 else 3
    digits = max(0, min(1 - math.floor(math.log10(half)), 6)) if half > 0 else default
    difference, low, high = (f"{value * factor:.{digits}f}" for value in found[:3])
    text = signed(_signless(difference))
    return text if math.isnan(half) else f"{text} [{low}, {high}]"


def signed(text: str) -> str:
    """Return a difference with its sign; one that is printed as zero has none.

    >>> signed("3.1"), signed("-3.1 ± 0.4"), signed("0.0 ± 0.2"), signed("")
    ('+3.1', '-3.1 ± 0.4', '0.0 ± 0.2', '')
    """
    return text if not text or text.startswith("-") or not text.split(" ")[0].strip("0.") else f"+{text}"


def p_text(p: float) -> str:
    """Return a p value.

    >>> p_text(0.0004), p_text(0.0123), p_text(0.4), p_text(1.0), p_text(math.nan)
    ('<0.001', '0.012', '0.40', '1.00', '')
    """
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def rounded(value: float, digits: int) -> str:
    """Return `value` with so many significant digits, without an exponent up to a million.

    >>> rounded(1234.5, 3), rounded(0.01234, 2), rounded(math.inf, 2)
    ('1230', '0.012', '')
    """
    return f"{float(f'{value:.{digits}g}'):g}" if math.isfinite(value) else ""


def time_text(times: Times) -> str:
    """Return the median and how many cells reached it, the count alone where fewer than half did, nothing
    where no cell is done.

    >>> time_text(Times(300.0, 4, 5)), time_text(Times(math.nan, 2, 5))
    ('300 (4 of 5)', 'not reached (2 of 5)')
    """
    if not times.n:
        return ""
    median = "not reached" if math.isnan(times.median) else f"{times.median:.6g}"
    return f"{median} ({times.reached} of {times.n})"


def csv_number(value: float) -> str:
    """Return ten significant digits, more than any figure has and fewer than machines disagree on; nothing
    for what is not finite.
    """
    return f"{value:.10g}" if math.isfinite(value) else ""


def _decimals(half: float, default: int) -> int:
    """Return how many decimals show one significant digit of `half`, or two where it begins with 1 or 2.

    >>> [_decimals(half, 1) for half in (0.94, 0.96, 0.12, 1.4, 5.2, 23.0, 0.0)]
    [1, 1, 2, 1, 0, 0, 1]
    """
    if half <= 0:
        return default
    exponent = math.floor(math.log10(half))
    leading = half / 10.0**exponent
    wanted = (1 if leading < 2.95 else 0) - exponent
    return max(0, min(wanted, default + 3))


def _signless(text: str) -> str:
    """Return "-0.0" as "0.0"."""
    return text.removeprefix("-") if not text.strip("-0.") else text


__all__ = ["bounds", "csv_number", "figure", "p_text", "rounded", "signed", "time_text"]
