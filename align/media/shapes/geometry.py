"""Point clouds for the page: few points, evenly spread, and their normals."""

from __future__ import annotations

import numpy as np


def scatter(xyz: np.ndarray, most: int = 512) -> np.ndarray:
    """Indices of at most `most` of (P,3) points, each the farthest from those before it: even, and always the same.

    Eldar et al. 1997, "The farthest point strategy for progressive image sampling", over at most 8 most points.
    """
    pool = np.arange(len(xyz))
    if len(pool) <= most:
        return pool
    if len(pool) > 8 * most:
        pool = np.sort(np.random.default_rng(0).choice(pool, 8 * most, replace=False))
    x, y, z = np.ascontiguousarray(xyz[pool].T)
    picked, gap = [0], np.full(len(pool), np.inf)
    for _ in range(most - 1):
        p = picked[-1]
        np.minimum(gap, (x - x[p]) ** 2 + (y - y[p]) ** 2 + (z - z[p]) ** 2, out=gap)
        picked.append(int(gap.argmax()))
    return pool[np.sort(picked)]


def normal(xyz: np.ndarray, near: int = 12) -> np.ndarray:
    """(P,3) -> (P,3): unit normals, the direction in which a point's neighbours spread least, turned outwards."""
    square = (xyz**2).sum(axis=1)
    distance = square[:, None] + square[None] - 2 * xyz @ xyz.T  # (P,P)
    index = np.argpartition(distance, min(near, len(xyz) - 1), axis=1)[:, :near]
    patch = xyz[index] - xyz[index].mean(axis=1, keepdims=True)  # (P,near,3)
    _, vectors = np.linalg.eigh(patch.transpose(0, 2, 1) @ patch)
    out = vectors[:, :, 0]
    return out * np.where((out * xyz).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
