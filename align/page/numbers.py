"""Numbers and intervals as text, the same on the page and on the terminal."""

from __future__ import annotations

import math

from align.page.section import Interval


def write_rounded(value: float) -> str:
    """Return a score with three decimals, a number of 10 or more with one."""
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def write_exact(value: float) -> str:
    """Return all digits of a number."""
    return repr(float(value))


def write_interval(interval: Interval | None) -> str:
    """Return "[0.87, 0.94]", or "" without an interval or where an end of it is not finite.

    The number of decimals follows from the interval's width: its ends are rounded where the rest is noise.

    >>> write_interval((0.8712, 0.9433)), write_interval((0.9912, 0.9987)), write_interval((12.2, 1430.0))
    ('[0.87, 0.94]', '[0.991, 0.999]', '[12, 1,430]')
    """
    if interval is None or not is_finite(interval):
        return ""
    low, high = interval
    width = high - low
    if width <= 0:
        return f"[{write_rounded(low)}, {write_rounded(high)}]"
    decimals = min(6, max(2 if width < 1 else 0, math.ceil(0.69 - math.log10(width))))
    low, high = (round(end, decimals) + 0.0 for end in interval)  # + 0.0: no "-0.00"
    return f"[{low:,.{decimals}f}, {high:,.{decimals}f}]"


def is_finite(interval: Interval) -> bool:
    """Return True for an interval whose two ends are numbers on an axis."""
    return all(math.isfinite(end) for end in interval)
