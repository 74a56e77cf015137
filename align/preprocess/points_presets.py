"""Published preprocessing of clouds, by name: count of points, axes and scale."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from align.preprocess.base import check_choice

Up = Literal["z", "y"]
PointsPreset = Literal["unit_sphere", "absolute", "openshape", "ulip2", "uni3d"]


class Cloud(NamedTuple):
    """Arguments of ``Points`` that a preset fills, and the order of its steps.

    published: rows keep the order of a file that has as many points as a row, and are scaled after points are drawn.
    """

    points: int = 1024
    up: Up = "z"
    swap: bool = False
    published: bool = False


PRESETS = {
    "unit_sphere": Cloud(),
    "absolute": Cloud(),
    "openshape": Cloud(10_000, "y", swap=True, published=True),
    "ulip2": Cloud(10_000, "y", published=True),
    "uni3d": Cloud(10_000, "y", published=True),
}
"""Presets, and the traps of the published ones.

All three read 10,000 points with rgb in [0, 1], draw the points first, and then move their centroid to 0 and the
farthest to 1. Their encoders start at the first point or take the first of a ball, so the order of the points counts:
a file of 10,000 keeps its order. The originals draw from larger files at random. Here evaluation always draws the same,
evenly spread ones, and a smaller file gives all its points, then again. A cloud without colour is grey, .4.

- openshape: y and z change places, before scaling, as ``load_ply(y_up=True)`` has it. That mirrors the cloud, and the
  models have seen mirrored clouds only. Files are y-up then. ``swap=False`` is for files that are z-up, and for the
  models vitl14 and vitb32, which read y-up rows. The original fails on files of fewer points and, in ``load_ply``, on
  files without colour: its grey is behind a test that is never true. ScanObjectNN is drawn with replacement there.
- ulip2: y-up, nothing changes places. Points of Objaverse are read whole. ModelNet40 is grey there and is not scaled,
  because its files are. Identical points divide by zero in the original, and are 0 here. Its random draw takes points
  of the first 10,000 only.
- uni3d: as ulip2. It draws no points at all, so a file of another count is a row of another count. It divides bytes of
  colour by 255 (100 becomes .4). ``--openshape_setting`` of its code is the preset openshape, and no published figure
  uses it.
"""


def fill_arguments(preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return ``given`` with the preset's values in place of None. Raises ValueError for an unknown preset."""
    check_choice("preset", preset, tuple(PRESETS))
    return {name: getattr(PRESETS[preset], name) if value is None else value for name, value in given.items()}
