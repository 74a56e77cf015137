"""Point clouds of solids: samples of the surface with their colour, at absolute scale."""

from __future__ import annotations

import io
from functools import cache

import numpy as np

from align.quickstart.materials import albedo, grain, shade
from align.quickstart.shapes import SOLIDS, normals
from align.quickstart.world import Solid

LAMP = np.array([[0.28], [-0.21], [0.937]], np.float32)


@cache
def surface(name: str, n: int = 8192) -> tuple[np.ndarray, np.ndarray]:
    """Return n points (3, n) spread over the surface of a unit solid, about evenly by area, and their normals (3, n).

    Of many random points, those in a thin shell under the surface are moved onto it along the gradient.
    """
    shape = SOLIDS[name]
    rng = np.random.default_rng(sorted(SOLIDS).index(name))
    low = np.array([-shape.radius, -shape.radius, 0], np.float32)[:, None]
    high = np.array([shape.radius, shape.radius, shape.middle + shape.radius], np.float32)[:, None]
    kept: list[np.ndarray] = []
    while sum(k.shape[1] for k in kept) < n:
        p = low + (high - low) * rng.random((3, 100_000), dtype=np.float32)
        d = shape.distance(p[0], p[1], p[2])
        p = p[:, (d < 0) & (d > -0.025)]
        for _ in range(2):
            p = p - normals(shape.distance, p, 0.004) * shape.distance(p[0], p[1], p[2])
        kept.append(p[:, np.abs(shape.distance(p[0], p[1], p[2])) < 0.004])
    p = np.concatenate(kept, axis=1)[:, :n]
    return p, normals(shape.distance, p, 0.004)


def points(solid: Solid, n: int = 1024) -> np.ndarray:
    """Return a cloud of an upright solid, turned by any azimuth: (n, 6) float16, xyz (z up) and rgb in [0, 1]."""
    rng = solid.generator(2)
    body = solid.body()
    p, normal = surface(solid.shape)
    pick = rng.choice(p.shape[1], n, replace=n > p.shape[1])
    p, normal = p[:, pick], normal[:, pick]
    q = p * np.float32(body.scale)
    pattern = grain(solid.material, q + body.offset[:, None], q[2])
    tint = albedo(solid.material, solid.color, pattern)
    flat = np.full(n, 0.5, np.float32)
    light = shade(solid.material, tint, normal, normal, LAMP, flat + 0.5, flat[None] + 0.1, p[2], flat)
    color = np.clip(light, 0, 1) ** np.float32(1 / 2.2)
    a = rng.uniform(0, 2 * np.pi)
    c, s = np.float32(np.cos(a)), np.float32(np.sin(a))
    noise = rng.normal(0, 0.004, (3, n)).astype(np.float32)
    xyz = np.stack([c * q[0] - s * q[1], s * q[0] + c * q[1], q[2]]) + noise
    return np.concatenate([xyz, color]).T.astype(np.float16)


def cloud(solid: Solid, n: int = 1024) -> bytes:
    """Return the cloud of a solid as an .npy file."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(points(solid, n)))
    return file.getvalue()
