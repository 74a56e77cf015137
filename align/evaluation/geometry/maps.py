"""Pictures of a space: a map of all modalities, and the cosines of matching and of other pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from align.evaluation.geometry.parts import Part
from align.metrics.geometry import Moments, UnitRows, plane
from align.page.section import Histogram, Scatter
from align.seeds import generator

POINTS = 500  # of a modality on the map
BINS = 40


def map_of(parts: Mapping[str, Part], sums: Mapping[str, Moments], seed: int) -> Scatter:
    """Return the first two principal components of all rows, with at most 500 points of each modality."""
    flat = plane([sums[m] for m in parts])
    groups = {}
    for m, part in parts.items():
        chosen = torch.randperm(len(part.rows), generator=generator("geometry/map", seed, m))[:POINTS].sort().values
        at = (part.rows.take(chosen) - flat.middle) @ flat.axes
        groups[m] = [(float(a), float(b)) for a, b in at.tolist()]
    first, second = flat.share
    return Scatter("Map", groups, f"principal components: {first:.0%} and {second:.0%} of the variance of all rows")


def cosines_of(m: str, other: str, x: UnitRows, y: UnitRows, seed: int) -> Histogram:
    """Return the cosines of matching pairs, and of as many pairs of different samples."""
    n = len(x)
    order = torch.randperm(n, generator=generator("geometry/pairs", seed))
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)  # no sample is its partner
    matching, others = torch.empty(n), torch.empty(n)
    for rows, a in x.blocks():
        matching[rows] = (a * y.block(rows.start, rows.stop)).sum(dim=1).float()
        others[rows] = (a * y.take(partner[rows])).sum(dim=1).float()
    low = math.floor(20 * min(float(matching.min()), float(others.min()))) / 20
    high = math.ceil(20 * max(float(matching.max()), float(others.max()))) / 20
    edges = torch.linspace(low, max(high, low + 0.05), BINS + 1)
    groups = {"matching pairs": _shares(matching, edges), "other pairs": _shares(others, edges)}
    return Histogram(f"Cosines of {m} and {other}", "cosine", [round(edge, 6) for edge in edges.tolist()], groups)


def _shares(values: Tensor, edges: Tensor) -> list[float]:
    """Return the share of values (n,) in each bin. A value beyond the edges is in the first or the last."""
    place = (torch.bucketize(values, edges, right=True) - 1).clamp(0, BINS - 1)
    return (torch.bincount(place, minlength=BINS).double() / len(values)).tolist()
