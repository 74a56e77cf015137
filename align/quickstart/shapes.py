"""The ten unit solids as signed distances, resting on z = 0. Image and cloud are made of these.

A distance may be too small (a bound) but never too large, so a ray can step by it (sphere tracing: Hart 1996).
Formulas after Inigo Quilez, https://iquilezles.org/articles/distfunctions/, written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def box(x: np.ndarray, y: np.ndarray, z: np.ndarray, a: float, b: float, c: float, r: float) -> np.ndarray:
    """Return the distance of a box of half sides a, b, c about the origin with edges rounded by r."""
    qx, qy, qz = np.abs(x) - (a - r), np.abs(y) - (b - r), np.abs(z) - (c - r)
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
    return outside + np.minimum(np.maximum(np.maximum(qx, qy), qz), 0) - r


def flat(d: np.ndarray, z: np.ndarray, half: float, r: float) -> np.ndarray:
    """Return a 2-D distance d extruded to +-half in z, with edges rounded by r."""
    qd, qz = d + r, np.abs(z) - (half - r)
    return np.sqrt(np.maximum(qd, 0) ** 2 + np.maximum(qz, 0) ** 2) + np.minimum(np.maximum(qd, qz), 0) - r


def cube(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return box(x, y, z - 0.7, 0.7, 0.7, 0.7, 0.05)


def sphere(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y + (z - 0.85) ** 2) - 0.85


def cone(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    side = 0.88 * np.sqrt(x * x + y * y) + 0.4752 * z - 0.79  # unit normal (0.88, 0.475): 0.9 wide, 1.66 high
    return np.maximum(side, 0.03 - z) - 0.03


def torus(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt((np.sqrt(x * x + y * y) - 0.7) ** 2 + (z - 0.29) ** 2) - 0.29


def capsule(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y + (z - np.clip(z, 0.42, 1.5)) ** 2) - 0.42


def tube(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return flat(np.abs(np.sqrt(x * x + y * y) - 0.6) - 0.14, z - 0.6, 0.6, 0.04)


def star(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the distance of a five-pointed prism: the plane folded five times, then one edge from tip to notch."""
    angle = np.abs(np.mod(np.arctan2(y, x) + np.pi / 5, 2 * np.pi / 5) - np.pi / 5)
    radius = np.sqrt(x * x + y * y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    tip, nu, nv = 1.02, 0.44 * float(np.cos(np.pi / 5)), 0.44 * float(np.sin(np.pi / 5))
    eu, ev = nu - tip, nv
    h = np.clip(((u - tip) * eu + v * ev) / (eu * eu + ev * ev), 0, 1)
    d = np.sqrt((u - tip - h * eu) ** 2 + (v - h * ev) ** 2)
    inside = eu * v > ev * (u - tip)
    return flat(np.where(inside, -d, d), z - 0.3, 0.3, 0.03)


def octahedron(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return (np.abs(x) + np.abs(y) + np.abs(z - 0.95) - 0.9) * 0.57735 - 0.03


def spring(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the distance of a helix of three turns, radius 0.62, pitch 0.48, wire 0.14, with a ball at each end."""
    radius, pitch, wire, turns, foot = 0.62, 0.48, 0.14, 3, 0.14
    theta = np.arctan2(y, x) / (2 * np.pi) + 0.5  # 0..1, the seam at -x
    rise = z - foot - pitch * theta
    rise = rise - pitch * np.clip(np.rint(rise / pitch), 0, turns - 1)
    d = np.sqrt((np.sqrt(x * x + y * y) - radius) ** 2 + (0.97 * rise) ** 2)
    across = (x + radius) ** 2 + y * y
    ends = np.minimum((z - foot) ** 2, (z - foot - turns * pitch) ** 2) + across
    return np.minimum(d, np.sqrt(ends)) - wire


def cross(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the distance of three bars at right angles."""
    z = z - 0.9
    a, b, r = 0.9, 0.25, 0.04
    return np.minimum(np.minimum(box(x, y, z, a, b, b, r), box(x, y, z, b, a, b, r)), box(x, y, z, b, b, a, r))


class Shape(NamedTuple):
    """A unit solid: its signed distance, and the height of the middle and the radius of a ball around it."""

    distance: Distance
    middle: float
    radius: float


SOLIDS: dict[str, Shape] = {
    "cube": Shape(cube, 0.7, 1.22),
    "sphere": Shape(sphere, 0.85, 0.86),
    "cone": Shape(cone, 0.6, 1.16),
    "torus": Shape(torus, 0.29, 1.0),
    "capsule": Shape(capsule, 0.96, 0.97),
    "tube": Shape(tube, 0.6, 0.96),
    "star": Shape(star, 0.3, 1.07),
    "octahedron": Shape(octahedron, 0.95, 0.96),
    "spring": Shape(spring, 0.86, 1.12),
    "cross": Shape(cross, 0.9, 0.98),
}


def normals(distance: Distance, p: np.ndarray, step: float = 0.01) -> np.ndarray:
    """Return unit normals (3, n) at points (3, n): the distance's gradient from the four corners of a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    q = (p[:, None, :] + step * corners.T[:, :, None]).reshape(3, -1)
    d = distance(q[0], q[1], q[2]).reshape(4, -1)
    n = np.stack([d[0] - d[1] - d[2] + d[3], d[2] + d[3] - d[0] - d[1], d[1] + d[3] - d[0] - d[2]])
    return n / np.maximum(np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2), 1e-9)
