"""Geometry of two modalities, over the samples that have both."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.geometry.matrix import GivenMatrix, place_of
from align.evaluation.geometry.measured import Measured
from align.evaluation.geometry.parts import LEAST, Part, common
from align.metrics.geometry import (
    Estimate,
    alignment,
    cka,
    dissimilarities,
    gap,
    mantel,
    overlap,
    rsa,
    separability,
)
from align.seeds import generator


class Sampling(NamedTuple):
    """Settings of RSA. rows: samples at most. draws: permutations of the Mantel test."""

    rows: int
    draws: int
    seed: int

    def choose(self, samples: Tensor, size: int) -> Tensor:
        """Return at most ``rows`` of the samples (n,) out of ``size``, drawn in one order for all pairs, sorted."""
        order = torch.randperm(size, generator=generator("geometry/rsa", self.seed))
        asked = torch.zeros(size, dtype=torch.bool).index_fill_(0, samples, True)
        return order[asked[order]][: self.rows].sort().values


def measure_pair(into: Measured, names: tuple[str, str], parts: tuple[Part, Part], k: int, sampling: Sampling) -> str:
    """Add gap, separability, alignment, CKA, mutual kNN and RSA of two modalities. Return a note, or ""."""
    (m, other), (a, b) = names, parts
    pair, samples = f"{m}+{other}", common(a, b)
    if len(samples) < LEAST:
        return f"geometry of {pair} is not measured: {len(samples)} samples have both, and it needs {LEAST}"
    x, y = a.of(samples), b.of(samples)
    for name, estimate in {"gap": gap(x, y), "alignment": alignment(x, y), "cka": cka(x, y)}.items():
        into.add(f"geometry/{pair}/{name}", estimate, samples)
    right = separability(x, y, generator=generator("geometry/folds", sampling.seed))
    told = Estimate(float(right.mean()), right.flatten())
    into.add(f"geometry/{pair}/separability", told, samples.repeat_interleave(2))
    near = [into.near(name, rows, k).nearest for name, rows in ((m, x), (other, y))]
    shares = overlap(*near)
    into.add(f"geometry/{pair}/knn", Estimate(float(shares.mean()), shares), samples)
    into.scores[f"geometry/{pair}/knn_chance"] = near[0].shape[1] / (len(samples) - 1)
    chosen = sampling.choose(samples, len(a.first))
    both = [dissimilarities(part.of(chosen).take(torch.arange(len(chosen)))) for part in parts]
    _compare(into, f"geometry/{pair}/rsa", both[0], both[1], chosen, sampling)
    into.count("samples", pair, len(samples))
    into.count("k", pair, near[0].shape[1])
    into.count("RSA samples", pair, len(chosen))
    return ""


def measure_given(into: Measured, m: str, part: Part, matrix: GivenMatrix, ids: list[str], sampling: Sampling) -> str:
    """Add the RSA of a modality with a given matrix. Return a note, or "".

    Raises ValueError for a matrix that does not fit the samples.
    """
    place = place_of(matrix, ids)
    samples = ((place >= 0) & (part.first >= 0)).nonzero().flatten()
    if len(samples) < LEAST:
        return f"geometry of {m} and {matrix.source}: {len(samples)} samples have both, and it needs {LEAST}"
    chosen = sampling.choose(samples, len(ids))
    ours = dissimilarities(part.of(chosen).take(torch.arange(len(chosen))))
    given = matrix.values[place[chosen]][:, place[chosen]]
    _compare(into, f"geometry/{m}/rsa_given", ours, given, chosen, sampling)
    into.count("RSA samples", f"{m} and the given matrix", len(chosen))
    return ""


def _compare(into: Measured, name: str, x: Tensor, y: Tensor, samples: Tensor, sampling: Sampling) -> None:
    into.add(name, rsa(x, y), samples)
    draw = generator("geometry/mantel", sampling.seed)
    into.scores[f"{name}_p"] = mantel(x, y, draws=sampling.draws, generator=draw)
