"""A line chart as inline SVG: axes, ticks, lines, and the numbers behind it for the hover read-out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from align.page.markup import Markup, block, join, tag

WIDTH, HEIGHT = 420.0, 232.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 410.0, 12.0, 200.0  # of the plot, in the drawing's units


class Series(NamedTuple):
    """One line. raw: what it smooths, drawn pale behind it; dots: a mark at each point; strong: the one to look at."""

    name: str
    points: Sequence[tuple[float, float]]
    raw: Sequence[tuple[float, float]] = ()
    dots: bool = False
    strong: bool = False


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def short(value: float) -> str:
    """A tick's label: 0, 0.25, 1500, 20k, 1e-5."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 1e4:
        return f"{value / 1000:.6g}k"
    return f"{value:.6g}"


def limits(series: Sequence[Series]) -> tuple[float, float]:
    """The y axis: all lines, and the raw values but for the most extreme hundredth; zero where it is near."""
    raw = sorted(y for s in series for _, y in s.raw)
    cut = len(raw) // 100
    values = [y for s in series for _, y in s.points] + raw[cut : len(raw) - cut]
    low, high = min(values), max(values)
    if 0 < low < 0.5 * high:
        low = 0.0
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (low if low == 0 else low - pad), high + pad


def chart(
    title: str, series: Sequence[Series], *, key: str, about: str = "", unit: tuple[float, float] | None = None
) -> Markup:
    """A figure with its title, legend and data. key: unique on the page; unit: fixed limits of the y axis."""
    xs = [x for s in series for x, _ in (*s.points, *s.raw)]
    x0, x1 = min(xs), max(xs)
    y0, y1 = unit or limits(series)

    def px(x: float) -> float:
        return LEFT + (RIGHT - LEFT) * (x - x0) / ((x1 - x0) or 1)

    def py(y: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (y - y0) / ((y1 - y0) or 1)

    def path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
        d = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        return tag("path", d=f"M{d}", class_=kind)

    grid = []
    for y in ticks(y0, y1):
        grid.append(tag("line", x1=LEFT, x2=RIGHT, y1=f"{py(y):.1f}", y2=f"{py(y):.1f}", class_="grid"))
        grid.append(tag("text", short(y), x=LEFT - 7, y=f"{py(y) + 3.5:.1f}", class_="ty"))
    for x in ticks(x0, x1):
        grid.append(tag("line", x1=f"{px(x):.1f}", x2=f"{px(x):.1f}", y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        grid.append(tag("text", short(x), x=f"{px(x):.1f}", y=BOTTOM + 17, class_="tx"))
    grid.append(tag("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"))
    grid.append(tag("text", "step", x=RIGHT, y=HEIGHT - 2, class_="unit"))

    lines = []
    for i, s in enumerate(series):
        drawn = [path(s.raw, "raw")] if s.raw else []
        if len(s.points) > 1:
            drawn.append(path(s.points, "line"))
        if s.dots or len(s.points) == 1:
            drawn += [tag("circle", cx=f"{px(x):.1f}", cy=f"{py(y):.1f}", r=2.2) for x, y in s.points]
        lines.append(tag("g", *drawn, class_=f"s {_colour(i, s)}", data_i=i))
    clip = tag(
        "clipPath", tag("rect", x=LEFT, y=TOP - 4, width=RIGHT - LEFT + 3, height=BOTTOM - TOP + 5), id=f"clip-{key}"
    )
    plot = tag("g", *lines, clip_path=f"url(#clip-{key})")
    cursor = tag("g", tag("line", x1=0, x2=0, y1=TOP, y2=BOTTOM), class_="cursor", visibility="hidden")
    last = ", ".join(f"{s.name} {s.points[-1][1]:.4g}" for s in series)
    svg = tag(
        "svg", join(grid), clip, plot, cursor, viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}", role="img",
        aria_label=f"{title}: last values {last}",
    )  # fmt: skip
    data: dict[str, Any] = {
        "box": [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT],
        "x": [x0, x1],
        "y": [y0, y1],
        "series": [
            {"n": s.name, "c": _colour(i, s), "p": [[x, float(f"{y:.5g}")] for x, y in s.points]}
            for i, s in enumerate(series)
        ],
    }
    return tag(
        "figure",
        tag("figcaption", tag("b", title), tag("span", about) if about else ""),
        tag("div", svg, tag("output", class_="readout", hidden=True), class_="plot", tabindex=0),
        tag("div", *(_chip(i, s) for i, s in enumerate(series)), class_="legend"),
        block(data),
        class_="chart",
    )


def _colour(i: int, s: Series) -> str:
    return "strong" if s.strong else f"c{i % 8}" + (" dashed" if i >= 8 else "")


def _chip(i: int, s: Series) -> Markup:
    value = tag("span", f"{s.points[-1][1]:.4g}", class_="last")
    return tag("button", tag("i", class_=_colour(i, s)), s.name, value, type="button", aria_pressed="true", data_i=i)


def bar(value: float, chance: float | None = None) -> Markup:
    """A bar of `value` in [0,1], with a mark at `chance`, if there is one."""
    fill = tag("rect", width=f"{100 * min(1.0, max(0.0, value)):.1f}", height=6, class_="fill")
    mark = (
        tag("rect", x=f"{100 * chance - 0.6:.1f}", width=1.2, height=6, class_="chance") if chance is not None else ""
    )
    track = tag("rect", width=100, height=6, class_="track")
    return tag(
        "svg", track, fill, mark, class_="bar", viewBox="0 0 100 6", preserveAspectRatio="none", aria_hidden="true"
    )
