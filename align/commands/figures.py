"""Curves, confusions, histograms and maps of an evaluation as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from align.page.section import Confusions, Curve, Histogram, Interval, Measured, Scatter

SPARKS = "▁▂▃▄▅▆▇█"
LISTED = 10  # confusions of a table
WIDE = 4  # lines of a curve at most that have their bands on a terminal
BINS = 60  # characters of a histogram


class Lines(NamedTuple):
    """A block as text. left: columns that are aligned to the left."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int


def list_curve(block: Curve) -> Lines:
    """Return a row for each x, with the y of each line there and, of up to ``WIDE`` lines, the ends of its band."""
    lines = {name: dict(points) for name, points in block.lines.items()}
    drawn = block.bands if len(lines) <= WIDE else {}
    bands = {name: {x: ends for x, *ends in drawn.get(name, ())} for name in lines}
    places = sorted({x for points in lines.values() for x in points})

    def cell(name: str, x: float) -> str:
        low, high = bands[name].get(x, (None, None))
        return write_measured(lines[name].get(x), None if low is None or high is None else (low, high))

    title = block.title if block.y in block.title else f"{block.title}: {block.y}"
    return Lines(title, [block.x, *lines], [[f"{x:g}", *(cell(n, x) for n in lines)] for x in places], 0)


def list_confusions(title: str, block: Confusions) -> Lines:
    """Return the most frequent confusions. The page shows all of them."""
    from align.page.confusions import list_mistakes

    found = list_mistakes(block)
    shown = f"the {LISTED} most frequent of {len(found):,}" if len(found) > LISTED else f"all {len(found)}"
    rows = [[m.name, m.answer, f"{m.samples:,}", f"{m.share:.1%}"] for m in found[:LISTED]]
    return Lines(f"{title}, {block.title}: confusions, {shown}", ["class", "taken for", "samples", "share"], rows, 2)


def list_histogram(block: Histogram) -> Lines:
    """Return a row of bars in characters for each group: of each bin, or of neighbours where there are many."""
    size = math.ceil(max(1, len(block.edges) - 1) / BINS)  # bins of a character
    shares = {
        name: [sum(y for y in found[i : i + size] if math.isfinite(y)) for i in range(0, len(found), size)]
        for name, found in block.shares.items()
    }
    most = max((y for found in shares.values() for y in found), default=0.0) or 1.0
    rows = [[name, "".join(_spark(y / most) for y in found)] for name, found in shares.items()]
    ends = f"{_write_edge(block.edges[0])} to {_write_edge(block.edges[-1])}" if len(block.edges) > 1 else "no bins"
    return Lines(f"{block.title}: share of each group by {block.x}", ["group", ends], rows, 2)


def _write_edge(edge: float) -> str:
    """Return an end of an axis with three digits, or all those before the point."""
    return f"{edge:.3g}" if abs(edge) < 1000 else f"{edge:,.0f}"


def _spark(height: float) -> str:
    """Return the character of a bar. A bin without a value has a space."""
    return SPARKS[min(7, int(8 * height))] if height > 0 else " "


def list_scatter(block: Scatter) -> Lines:
    """Return the number of groups and of points."""
    title = f"{block.title}: the report draws this map" + (f" ({block.about})" if block.about else "")
    counts = [len(block.groups), sum(map(len, block.groups.values()))]
    return Lines(title, ["groups", "points"], [[write_cell(count) for count in counts]], 0)


def write_measured(value: float | None, interval: Interval | None) -> str:
    """Return a number with its interval, as "0.912 [0.87, 0.94]"."""
    from align.page.numbers import write_interval

    return f"{write_cell(value)} {write_interval(interval)}".rstrip()


def write_cell(value: str | float | Measured | None) -> str:
    """Return the text of a table's cell."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, tuple):
        return write_measured(*value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def write_probability(p: float) -> str:
    """Return a p-value with three digits behind the point, or the first one that is not 0."""
    digits = 3 if p >= 0.001 else 1 - math.floor(math.log10(p)) if p > 0 else 3
    return f"{p:.{digits}f}"
