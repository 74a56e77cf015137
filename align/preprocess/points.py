"""Point clouds: any number of points, with or without colour, becomes P points at a stated scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import cos, exp, log, pi, sin
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from align.media.cloud import CLOUD, MAX_POINTS
from align.media.npy import read_array
from align.media.shapes.array import read_columns
from align.media.shapes.mesh import read_cloud
from align.media.shapes.part import COLOUR_MISSING, FILL
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.points_presets import PRESETS, PointsPreset, Up, fill_arguments


class Points(Preprocess):
    """Clouds of ``points`` points. Rows are (points, 6) float32, xyz and rgb in [0, 1]. Without colour: (points, 3).

    Args:
        points: in a row. Default: 1024, and 10,000 for a published preset.
        preset: "unit_sphere" moves the centroid to 0 and scales the farthest point to 1. "absolute" keeps place and
            size, for objects whose size matters. "openshape", "ulip2" and "uni3d" are published preprocessings, which
            fill points, up and swap where they are left out. See ``points_presets.PRESETS`` for their traps.
        color: read rgb. A cloud without colour has 0.4 everywhere.
        up: the axis that points up in the files. Default: z, and y for a published preset.
        swap: exchange y and z, which turns up to the other axis and mirrors the cloud. Default: only "openshape" does.
        rotate: in training: about the up axis ("up"), about any axis ("any"), or not at all.
        jitter: in training: a normal shift of each point, as a share of the cloud's radius.
        scale_jitter: in training: up to so much larger or smaller (0.2: a factor of 1/1.2 to 1.2).
        drop: in training: how often a cloud loses its colours.
        scale: multiplies absolute coordinates.
        max_points: a larger array is refused by its header.
    """

    suffixes: ClassVar[tuple[str, ...]] = CLOUD.suffixes
    medium = CLOUD
    files: ClassVar[tuple[str, ...]] = CLOUD.files
    """Suffixes of meshes and scans, which ``decode`` reads from a path."""

    def __init__(
        self,
        points: int | None = None,
        preset: PointsPreset = "unit_sphere",
        color: bool = True,
        up: Up | None = None,
        rotate: Literal["none", "up", "any"] = "none",
        jitter: float = 0.01,
        scale_jitter: float = 0.0,
        drop: float = 0.0,
        scale: float = 1.0,
        max_points: int = MAX_POINTS,
        swap: bool | None = None,
    ):
        filled = fill_arguments(preset, {"points": points, "up": up, "swap": swap})
        self.points: int = filled["points"]
        self.up: Up = filled["up"]
        self.swap: bool = filled["swap"]
        check_at_least("points", self.points, 1)
        check_choice("up", self.up, ("z", "y"))
        check_choice("rotate", rotate, ("none", "up", "any"))
        for name, value in {"jitter": jitter, "scale_jitter": scale_jitter, "drop": drop}.items():
            check_at_least(name, value, 0)
        if scale != 1 and preset != "absolute":
            raise ValueError(f"scale={scale} means nothing with preset={preset!r}, which sets the scale itself")
        self.preset: PointsPreset = preset
        self.color = color
        self.rotate = rotate
        self.jitter = jitter
        self.scale_jitter = scale_jitter
        self.drop = drop
        self.scale = scale
        self.max_points = max_points
        self.channels = 6 if color else 3
        self._published = PRESETS[preset].published

    def decode(self, source: Any) -> Tensor:
        """Return (P, 6 or 3) float32, placed and scaled, P as it comes, from .npy bytes, a path, an array or a tensor.

        In memory its columns are contiguous, not its rows: ``train`` and ``eval`` copy only the rows they draw.

        Raises BadSample: points/empty, not-npy, dtype, too-large, truncated, shape, non-finite, range, colour,
        unreadable, corrupt, incomplete. Warns of a mesh whose texture or material is missing: it has no colour.
        """
        if isinstance(source, str | Path) and Path(source).suffix.lower().lstrip(".") in self.files:
            array, notes = read_cloud(source, max(4 * self.points, 4096))
            for note in notes:
                if note.reason == COLOUR_MISSING and self.color:
                    warnings.warn(f"{source} is read without colour: {note.detail}", stacklevel=2)
        else:
            array = read_array(source, "points", limit=6 * self.max_points)
        cloud = read_columns(array, source, self.color)  # (6 or 3, P)
        if self.preset != "absolute":
            cloud[:3] = unit_sphere(cloud[:3])
        elif self.scale != 1:
            cloud[:3] *= self.scale
        if self.swap:
            cloud[1:3] = cloud[2:0:-1].copy()
        if len(cloud) < self.channels:
            cloud = np.concatenate([cloud, np.full_like(cloud, FILL)])
        return torch.from_numpy(cloud.astype(np.float32, copy=False)).T

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        P = len(x)
        # every point once, then again, and what remains drawn without replacement
        order = torch.randperm(P, generator=generator)[: self.points % P if self.points > P else self.points]
        if self.points > P:
            order = torch.cat([torch.arange(P).repeat(self.points // P), order])
        out = self._scale(x[order])
        rotation = turn(self.rotate, {"z": "y", "y": "z"}[self.up] if self.swap else self.up, generator)
        xyz = out[:, :3] if self.rotate == "none" else out[:, :3] @ rotation.T
        factor, grey = torch.rand(2, generator=generator).tolist()
        if self.jitter:
            radius = (xyz - xyz.mean(0)).norm(dim=1).max()
            xyz = xyz + self.jitter * radius * torch.randn(xyz.shape, generator=generator).clamp(-3, 3)
        out[:, :3] = xyz * exp((2 * factor - 1) * log(1 + self.scale_jitter))
        if self.color and grey < self.drop:
            out[:, 3:] = FILL
        return out

    def eval(self, x: Tensor) -> Tensor:
        return self._scale(x[self.order(len(x))])

    def fit_mask(self, mask: Tensor) -> Tensor:
        """Return a mask (P,) of a cloud's points as ``eval`` draws the points."""
        return mask[self.order(len(mask))]

    def order(self, count: int) -> Tensor:
        """Return the index, in a cloud of so many points, of each point (points,) that ``eval`` takes."""
        order = spread(count, self.points)
        if self._published and count <= self.points:  # every point in its place, then again, and what remains spread
            whole = self.points - self.points % count
            order = torch.cat([torch.arange(whole) % count, order[: self.points - whole]])
        return order

    def _scale(self, x: Tensor) -> Tensor:
        """Return the drawn points (points, C) of a published preset as a unit sphere, and any other's as they are."""
        if self._published:
            x[:, :3] = torch.from_numpy(unit_sphere(x[:, :3].T.numpy())).T
        return x

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.points, self.channels), torch.float32)


def unit_sphere(xyz: np.ndarray) -> np.ndarray:
    """Return (3, P) float64 with its centroid at 0 and its farthest point at distance 1. Identical points become 0."""
    xyz = xyz.astype(np.float64, copy=False)
    centred = xyz - xyz.mean(1, keepdims=True)
    radius = float(np.sqrt(np.einsum("cp,cp->p", centred, centred).max()))
    if radius <= 1e-9 * max(1e-3, float(xyz.max()), -float(xyz.min())):  # left of identical points: rounding
        return np.zeros_like(xyz)
    return np.multiply(centred, 1 / radius, out=centred)


def spread(P: int, count: int) -> Tensor:
    """Return ``count`` indices below P: the same each time, evenly spread, each point as often as the next (± 1).

    Multiples of the golden ratio mod 1 leave no gap and follow no grid (Weyl's sequence), so a scan that lies in memory
    row by row is thinned evenly.
    """
    golden = (5**0.5 - 1) / 2
    order = (torch.arange(P, dtype=torch.float64) * golden % 1).argsort(stable=True)
    return order.repeat(-(-count // P))[:count]


def turn(kind: str, up: str, generator: torch.Generator) -> Tensor:
    """Return (3, 3): no rotation, one about the up axis, or one uniform over all (Shoemake 1992, quaternions)."""
    draws = torch.rand(3, generator=generator).tolist()
    if kind == "none":
        return torch.eye(3)
    if kind == "up":
        c, s = cos(2 * pi * draws[0]), sin(2 * pi * draws[0])
        return torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]] if up == "z" else [[c, 0, s], [0, 1, 0], [-s, 0, c]])
    a, b = (1 - draws[0]) ** 0.5, draws[0] ** 0.5
    x, y = a * sin(2 * pi * draws[1]), a * cos(2 * pi * draws[1])
    z, w = b * sin(2 * pi * draws[2]), b * cos(2 * pi * draws[2])
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
