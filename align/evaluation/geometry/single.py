"""Geometry of one modality: how its rows spread over the sphere, and how they compare with another model's."""

from __future__ import annotations

import torch

from align.evaluation.geometry.measured import Measured
from align.evaluation.geometry.parts import LEAST, Part
from align.metrics.geometry import (
    Estimate,
    Moments,
    depth,
    effective_rank,
    isotropy,
    mean_depth,
    moments,
    overlap,
    uniformity,
)


def measure_modality(into: Measured, m: str, part: Part, k: int) -> Moments:
    """Add uniformity, effective rank, isotropy and depth of all rows of a modality. Return their moments."""
    sums = moments(part.rows)
    estimates = {
        "uniformity": uniformity(into.near(m, part.rows, k).potential),
        "effective_rank": effective_rank(part.rows, sums),
        "isotropy": isotropy(part.rows, sums),
        "depth": mean_depth(depth(part.rows)),
    }
    for name, estimate in estimates.items():
        into.add(f"geometry/{m}/{name}", estimate, part.sample)
    into.count("rows", m, len(part.rows))
    return sums


def measure_against(
    into: Measured, m: str, part: Part, other: Part, ours: list[int], theirs: list[int], name: str, k: int
) -> None:
    """Add the mutual kNN of a modality with that of another model, over the samples that have a row in both.

    ours, theirs: the positions of the samples of the two tables.
    """
    place = {position: i for i, position in enumerate(theirs)}
    pairs = [(i, place.get(position, -1)) for i, position in enumerate(ours)]
    pairs = [(i, j) for i, j in pairs if j >= 0 and part.first[i] >= 0 and other.first[j] >= 0]
    if len(pairs) < LEAST:
        return
    sample, same = torch.tensor(pairs).T
    a = into.near(m, part.of(sample), k).nearest
    b = into.near(f"{m} of {name}", other.of(same), k).nearest
    shares = overlap(a, b)
    into.add(f"geometry/{m}/knn_against_{name}", Estimate(float(shares.mean()), shares), sample)
    into.count("samples", f"{m} against {name}", len(pairs))
    into.count("k", f"{m} against {name}", a.shape[1])
