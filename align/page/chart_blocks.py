"""Curve and Histogram blocks as charts: only numbers that have a place on an axis are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from align.page.chart import MOST, Chart, Series
from align.page.section import Curve, Histogram


def chart_of(block: Chart | Curve | Histogram) -> Chart:
    """Return the chart of a block, and a chart as it is."""
    if isinstance(block, Chart):
        return block
    return _curve(block) if isinstance(block, Curve) else _histogram(block)


def drawable(curve: Curve) -> dict[str, list[tuple[float, float]]]:
    """Return the lines' points that have a place on an axis: none that is NaN, infinite or past MOST."""
    lines = {
        name: [(x, y) for x, y in ((float(x), float(y)) for x, y in points) if abs(x) <= MOST and abs(y) <= MOST]
        for name, points in curve.lines.items()
    }
    return {name: points for name, points in lines.items() if points}


def drawable_shares(histogram: Histogram) -> dict[str, list[float]]:
    """Return the groups that have a share of every bin, all of them finite. A group without values has none."""
    shares = {name: [float(y) for y in found] for name, found in histogram.shares.items()}
    return {name: found for name, found in shares.items() if found and all(abs(y) <= MOST for y in found)}


def _curve(curve: Curve) -> Chart:
    series = []
    for name, points in drawable(curve).items():
        ends = [(float(x), float(low), float(high)) for x, low, high in curve.bands.get(name, ())]
        band = [end for end in ends if all(abs(value) <= MOST for value in end)]
        series.append(Series(name, points, dots=bool(band), band=band if len(band) > 1 else ()))
    return Chart(curve.title, series, curve.y, curve.x, log=grows_by_factors({x for s in series for x, _ in s.points}))


def grows_by_factors(xs: Iterable[float]) -> bool:
    """Return True for few positive places that lie factors apart, as 1, 10, 100 or 1, 2, 4, 8, 16 do."""
    places = sorted(xs)
    if not 3 <= len(places) <= 10 or places[0] <= 0:
        return False
    return places[-1] >= 8 * places[0] and all(b >= 1.5 * a for a, b in pairwise(places))


def _histogram(histogram: Histogram) -> Chart:
    """Return the steps of each group. Bins of no width, as equal values make them, get a width of 1 in all."""
    edges = [float(edge) for edge in histogram.edges]
    if not edges[-1] > edges[0]:
        first, bins = edges[0], len(edges) - 1
        edges = [first - 0.5 + i / bins for i in range(bins + 1)]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    series = []
    for name, shares in drawable_shares(histogram).items():
        corners = [(x, y) for (a, b), y in zip(pairwise(edges), shares, strict=True) for x, y in ((a, y), (b, y))]
        steps = [(edges[0], 0.0), *corners, (edges[-1], 0.0)]
        series.append(Series(name, list(zip(middles, shares, strict=True)), steps=steps))
    top = max(y for s in series for _, y in s.points)
    return Chart(histogram.title, series, "share of each group", histogram.x, (0.0, 1.06 * top or 1.0), edges)
