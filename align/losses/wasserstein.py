"""Wasserstein: two modalities whose rows are spread alike, whichever row belongs to which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_ids, row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def wasserstein(
    a: Tensor,
    b: Tensor,
    directions: Tensor,
    *,
    power: float = 2.0,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean over directions θ of W_p^p between the numbers <a_i, θ> and <b_j, θ> (the sliced Wasserstein
    distance, Bonneel et al. 2015, Sliced and Radon Wasserstein Barycenters of Measures); a 0-d tensor.

    In one dimension the optimal plan pairs sorted numbers: W_p^p = ∫ |F_a⁻¹(u) - F_b⁻¹(u)|^p du. MTAM (Han et al. 2022,
    arXiv:2208.06348) has a Wasserstein distance of the modalities' embeddings as its loss. The distance in D dimensions
    needs a plan, which ``sinkhorn`` approximates. It costs (n_a + n_b)·K·(D + log n) for K directions.

    a: (n_a, D), b: (n_b, D). directions: (K, D), unit vectors. power: p >= 1.
    sample_a, sample_b: ids. A row counts whether it has a partner or not. A row of id -1 does not.
    weight_a, weight_b: (n,) weights of the rows, the mass of each.
    part, merge: as in ``infonce``. A part takes its share of the directions.

    Where a side has no mass, it is zero and so are all gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b, directions])
    check_part(part, merge)
    if not 1 <= power < math.inf:
        raise ValueError(f"power is at least 1; got {power}")
    with exact(a):
        a, b, theta = at_least_float32([a, b, directions])
        masses = []
        for x, weight, sample, side in ((a, weight_a, sample_a, "a"), (b, weight_b, sample_b, "b")):
            given = row_weights(weight, x, f"weight_{side}") * (row_ids(sample, x, f"sample_{side}") >= 0)
            masses.append(given)
        theta = take_share(theta, part)
        if not (masses[0].sum() > 0 and masses[1].sum() > 0 and len(directions)):
            return nothing(a, b)
        each = _distances([multiply(theta, x) for x in (a, b)], masses, power)  # (k,)
        return sum_over_parts(each.sum(), merge) / len(directions) + nothing(a, b)


def _distances(numbers: Sequence[Tensor], masses: Sequence[Tensor], power: float) -> Tensor:
    """Return W_p^p of each row, (k,). numbers: two of (k, n_m). masses: two of (n_m,)."""
    ordered, ends = [], []
    for x, mass in zip(numbers, masses, strict=True):
        x, order = x[:, mass > 0].sort(dim=1)
        mass = mass[mass > 0][order]  # (k, n)
        ordered.append(x)
        ends.append((mass / mass.sum(1, keepdim=True)).cumsum(1))
    border = torch.cat(ends, 1).sort(dim=1).values.contiguous()  # (k, n_a + n_b) ends of the intervals of u
    length = border.diff(dim=1, prepend=torch.zeros_like(border[:, :1]))
    middle = border - length / 2
    at = [torch.searchsorted(end.contiguous(), middle).clamp(max=end.shape[1] - 1) for end in ends]
    gap = (ordered[0].gather(1, at[0]) - ordered[1].gather(1, at[1])).abs()
    return (length * gap**power).sum(1)


@final
class Wasserstein(Loss):
    """``wasserstein`` as a module, along directions that are drawn anew for every step. In a config::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          spread: {loss: align.losses.Wasserstein, between: [image, text], weight: 1.0}

    When to use it: beside a contrastive term, to close the gap between the modalities. Alone it says nothing of which
    row belongs to which, and scoring does not read it. The value is multiplied by D, so that a shift of the mean by δ
    counts |δ|² for a power of 2, whatever D is.

    directions: K, at each step. power: as in ``wasserstein``.
    """

    kind = "none"
    takes_unpaired = True
    in_parts = True

    def __init__(self, directions: int = 64, power: float = 2.0):
        super().__init__()
        if directions < 1:
            raise ValueError(f"directions is at least 1; got {directions}")
        if not 1 <= power < math.inf:
            raise ValueError(f"power is at least 1; got {power}")
        self.directions, self.power = directions, power

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), samples and weights (n_m,), no groups.

        generator: draws the directions, equal on all ranks. None: a generator of seed 0.
        """
        a, b = embeddings
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        theta = torch.randn(self.directions, a.shape[1], generator=generator, device=generator.device)
        theta = torch.nn.functional.normalize(theta, dim=1).to(a.device)
        weight_a, weight_b = weights or (None, None)
        value = wasserstein(
            a,
            b,
            theta,
            power=self.power,
            sample_a=samples[0],
            sample_b=samples[1],
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
        return a.shape[1] * value
