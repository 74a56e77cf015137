"""Scatter blocks as they are drawn: a cloud of marks for each group, both axes with one unit."""

from __future__ import annotations

from typing import NamedTuple

from align.page.chart import MOST
from align.page.section import Scatter

WIDTH, HEIGHT, PAD = 420.0, 300.0, 8.0
COLOURS = 12  # .g0 to .g11 of blocks.css
MARKS = ("h.01", "h.01", "m0,-3l2.8,4.9h-5.6z", "m-2.4,-2.4l4.8,4.8m0,-4.8l-4.8,4.8")  # round, square, triangle, cross


class Cloud(NamedTuple):
    """A group. style: its colour and its mark, as classes of blocks.css. mark, path: one and all, as in SVG's `d`."""

    name: str
    points: int
    style: str
    mark: str
    path: str


class Plane(NamedTuple):
    """A map as it is drawn. size: of a mark ("small", "middle", "large")."""

    title: str
    about: str
    size: str
    clouds: list[Cloud]


def arrange_plane(scatter: Scatter) -> Plane:
    """Return the drawing of a map. Points that are no numbers are not drawn, and counted in `about`."""
    groups = drawable_points(scatter)
    points = [point for found in groups.values() for point in found]
    lost = sum(map(len, scatter.groups.values())) - len(points)
    about = [scatter.about] if scatter.about else []
    about += [f"{lost:,} without a place"] if lost else []
    low, high = ([end(axis) for axis in zip(*points, strict=True)] for end in (min, max))
    room = (WIDTH - 2 * PAD, HEIGHT - 2 * PAD)
    scale = min((r / (b - a) for r, a, b in zip(room, low, high, strict=True) if b > a), default=1.0)
    middle = [(a + b) / 2 for a, b in zip(low, high, strict=True)]

    def place(x: float, y: float) -> str:
        return f"M{WIDTH / 2 + scale * (x - middle[0]):.1f},{HEIGHT / 2 - scale * (y - middle[1]):.1f}"

    clouds = []
    for i, (name, found) in enumerate(groups.items()):
        mark = i // COLOURS % len(MARKS)
        places = dict.fromkeys(place(x, y) for x, y in found)
        path = "".join(p + MARKS[mark] for p in places)
        clouds.append(Cloud(name, len(found), f"g{i % COLOURS} mark{mark}", MARKS[mark], path))
    size = "large" if len(points) <= 300 else "middle" if len(points) <= 2000 else "small"
    return Plane(scatter.title, ", ".join(about), size, clouds)


def drawable_points(scatter: Scatter) -> dict[str, list[tuple[float, float]]]:
    """Return the groups that have points with a place in the plane, and these points."""
    groups = {
        name: [(float(x), float(y)) for x, y in found if abs(x) <= MOST and abs(y) <= MOST]
        for name, found in scatter.groups.items()
    }
    return {name: found for name, found in groups.items() if found}
