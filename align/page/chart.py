"""A chart in the units of its drawing: axes, ticks, lines, areas, and the numbers behind it for the read-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from align.page.numbers import write_interval

WIDTH, HEIGHT = 420.0, 232.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 410.0, 12.0, 200.0  # of the plot, in the drawing's units
MOST = 1e300  # of a number on an axis: the length of the axis is a number too


class Series(NamedTuple):
    """One line.

    raw: the values that it smooths, drawn pale behind it. dots: a mark at each point. strong: the main line.
    band: (x, lowest y, highest y) around it. steps: corners of the steps that are drawn in place of the line through
    its points. The area below them is filled.
    """

    name: str
    points: Sequence[tuple[float, float]]
    raw: Sequence[tuple[float, float]] = ()
    dots: bool = False
    strong: bool = False
    band: Sequence[tuple[float, float, float]] = ()
    steps: Sequence[tuple[float, float]] = ()


class Chart(NamedTuple):
    """Lines over a common axis. about: words beside the title. x: the axis. y_limits: fixed ends of the y axis.

    edges: of the bins whose middles are the x of all points. log: the x axis has equal steps for equal factors.
    x_limits: ends of the x axis where they are wider than the points.
    """

    title: str
    series: Sequence[Series]
    about: str = ""
    x: str = "step"
    y_limits: tuple[float, float] | None = None
    edges: Sequence[float] = ()
    log: bool = False
    x_limits: tuple[float, float] | None = None


class Tick(NamedTuple):
    """A mark on an axis, in the drawing's units."""

    at: float
    text: str


class Line(NamedTuple):
    """A series in the drawing's units. raw, path, area: as in SVG's `d`, or "". last: its last value, "" of steps."""

    name: str
    colour: str
    raw: str
    path: str
    area: str
    dots: Sequence[tuple[float, float]]
    last: str


class Plot(NamedTuple):
    """A chart as it is drawn. data: for the page's script."""

    title: str
    about: str
    x: str
    xs: list[Tick]
    ys: list[Tick]
    lines: list[Line]
    data: dict[str, Any]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def write_tick(value: float) -> str:
    """Return a tick's label: 0, 0.25, 1500, 20k, 1e-5."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 1e4:
        return f"{value / 1000:.6g}k"
    return f"{value:.6g}"


def limits(series: Sequence[Series]) -> tuple[float, float]:
    """Return the ends of the y axis: all lines, and the raw values without the most extreme hundredth.

    The axis begins at zero where the lowest value is positive and below half of the highest.
    """
    raw = sorted(y for s in series for _, y in s.raw)
    cut = len(raw) // 100
    values = [y for s in series for _, y in s.points] + raw[cut : len(raw) - cut]
    values += [y for s in series for _, *ends in s.band for y in ends]
    low, high = min(values), max(values)
    if 0 < low < 0.5 * high:
        low = 0.0
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    if low == high == 1:
        return 0.0, 1 + pad
    return (low if low == 0 else low - pad), high + pad


def plot(chart: Chart) -> Plot:
    """Return the drawing of a chart."""
    xs = [x for s in chart.series for x, _ in (*s.points, *s.raw, *s.steps)]
    x0, x1 = min((*xs, *(chart.x_limits or ()))), max((*xs, *(chart.x_limits or ())))
    y0, y1 = chart.y_limits or limits(chart.series)

    on_axis = math.log if chart.log else float
    u0, u1 = on_axis(x0), on_axis(x1)

    def px(x: float) -> float:
        if u0 == u1:
            return (LEFT + RIGHT) / 2  # one point of an axis stands in its middle
        return LEFT + (RIGHT - LEFT) * (on_axis(x) - u0) / (u1 - u0)

    def py(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (y - y0) / ((y1 - y0) or 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return "M" + " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points) if points else ""

    lines = [
        Line(
            s.name,
            _colour(i, s),
            path(s.raw),
            path(s.steps) or (path(s.points) if len(s.points) > 1 else ""),
            path(s.steps or [(x, low) for x, low, _ in s.band] + [(x, high) for x, _, high in reversed(s.band)]),
            [(px(x), py(y)) for x, y in s.points] if s.dots or len(s.points) + len(s.steps) == 1 else [],
            "" if s.steps else f"{s.points[-1][1]:.4g}",
        )
        for i, s in enumerate(chart.series)
    ]
    data = {
        "box": [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT],
        "x": [x0, x1],
        "y": [y0, y1],
        "series": [
            {"n": s.name, "c": _colour(i, s), "p": [[x, float(f"{y:.5g}")] for x, y in s.points], **_ends(s)}
            for i, s in enumerate(chart.series)
        ],
    }
    if chart.edges:
        data["edges"] = [float(f"{edge:.6g}") for edge in chart.edges]
    if chart.log:
        data["log"] = True
    places = sorted(set(xs)) if chart.log else ticks(x0, x1)
    marks = [Tick(px(x), write_tick(x)) for x in places], [Tick(py(y), write_tick(y)) for y in ticks(y0, y1)]
    return Plot(chart.title, chart.about, chart.x, *marks, lines, data)


def _colour(i: int, s: Series) -> str:
    return "strong" if s.strong else f"c{i % 8}" + (" dashed" if i >= 8 else "")


def _ends(s: Series) -> dict[str, list[str]]:
    """Return the interval of each point as text, "" where the band has none, or nothing without a band."""
    found = {x: write_interval((low, high)) for x, low, high in s.band}
    return {"b": [found.get(x, "") for x, _ in s.points]} if found else {}
