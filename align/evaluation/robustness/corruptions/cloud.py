"""Corruptions of point clouds: jitter, dropout, rotation and the up axis, and other draws of their points.

A cloud is (P, 3) or (P, 6) float32, xyz and colour. It turns about its centroid, so an absolute place stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import cos, radians, sin
from typing import Any, final

import torch
from torch import Tensor

from align.evaluation.robustness.corruptions.corruption import Corruption, at, check_tensor
from align.preprocess import Preprocess
from align.seeds import derive

NAMES = ("jitter", "dropout", "rotation", "up_axis")
JITTER = (0.01, 0.02, 0.03, 0.04, 0.05)
DROPOUT = (0.25, 0.375, 0.5, 0.625, 0.75)
ROTATION = (2.5, 5, 7.5, 10, 15)
UP_AXIS = (18, 36, 54, 72, 90)


def jitter(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a cloud with a normal shift of each point. JITTER has its deviation as a share of the cloud's radius.

    The values are those of ModelNet-C (Ren et al. 2022, arXiv 2202.03377).
    """
    xyz = _xyz(x)
    shift = torch.randn(xyz.shape, generator=generator)
    radius = (xyz - xyz.mean(0)).norm(dim=1).max()
    return _with(x, xyz + at(JITTER, strength) * radius * shift)


def dropout(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a part of a cloud's points, one at least. DROPOUT has the share that is lost (ModelNet-C)."""
    _xyz(x)
    kept = max(1, round(len(x) * (1 - at(DROPOUT, strength))))
    return x[torch.randperm(len(x), generator=generator)[:kept].sort().values]


def rotation(x: Tensor, strength: int, generator: torch.Generator) -> Tensor:
    """Return a cloud that is turned about all three axes, each way by a draw. ROTATION has the angle in degrees.

    The values are those of ModelNet40-C (Sun et al. 2022, arXiv 2201.12296), which adds up to 2.5 degrees to either
    side of them.
    """
    xyz = _xyz(x)
    sign = 1 - 2 * (torch.rand(3, generator=generator) < 0.5).double()
    angles = (at(ROTATION, strength) * sign).tolist()
    turned = turn(angles[2], 2) @ turn(angles[1], 1) @ turn(angles[0], 0)
    return _with(x, _about_centre(xyz, turned))


def up_axis(x: Tensor, strength: int, generator: torch.Generator, *, up: str) -> Tensor:
    """Return a cloud that is tilted from z up towards y up, or the other way. UP_AXIS has the angle in degrees.

    At 90 degrees the cloud stands as the other convention has it. up: the axis that points up, "y" or "z".
    """
    angle = at(UP_AXIS, strength)
    return _with(x, _about_centre(_xyz(x), turn(angle if up == "y" else -angle, 0)))


@final
@dataclass(frozen=True)
class Redrawn:
    """The change of ``Space.altered`` that lets a preprocess draw other points of a cloud: it shuffles them."""

    seed: int

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        draws = int(torch.randint(1 << 62, (), generator=generator))
        return x[torch.randperm(len(_xyz(x)), generator=torch.Generator().manual_seed(derive(self.seed, draws)))]


def corruptions(preprocess: Preprocess) -> dict[str, Corruption]:
    """Return the corruptions of clouds by name."""
    stated: Any = getattr(preprocess, "up", "z")
    up = {"z": "y", "y": "z"}[stated] if getattr(preprocess, "swap", False) else stated
    return {
        "jitter": Corruption(jitter, JITTER, "deviation of each point's shift, as a share of the cloud's radius"),
        "dropout": Corruption(dropout, DROPOUT, "share of the points that is lost"),
        "rotation": Corruption(rotation, ROTATION, "angle about each axis, in degrees"),
        "up_axis": Corruption(partial(up_axis, up=up), UP_AXIS, "tilt towards the other up axis, in degrees"),
    }


def turn(degrees: float, axis: int) -> Tensor:
    """Return (3, 3) float64: the rotation by an angle about x (0), y (1) or z (2), by the right hand."""
    c, s = cos(radians(degrees)), sin(radians(degrees))
    rows = torch.eye(3, dtype=torch.float64)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rows[a, a], rows[a, b], rows[b, a], rows[b, b] = c, -s, s, c
    return rows


def _about_centre(xyz: Tensor, turned: Tensor) -> Tensor:
    """Return points (P, 3) under a rotation (3, 3) about their centroid.."""
    centre = xyz.double().mean(0)
    moved = xyz.double() - centre
    return (moved[:, None] * turned).sum(2).add(centre).float()  # (P, 3), the same for any number of threads


def _xyz(x: Tensor) -> Tensor:
    check_tensor(x, (2,), "clouds (P, 3 or 6)")
    return x[:, :3]


def _with(x: Tensor, xyz: Tensor) -> Tensor:
    """Return a cloud with other places of its points."""
    return torch.cat([xyz, x[:, 3:]], dim=1)
