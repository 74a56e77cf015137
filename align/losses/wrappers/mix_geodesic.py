"""MixGeodesic: negatives on the arc between the two rows of a pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.inputs import check_embeddings
from align.losses.kernels.numerics import at_least_float32, exact, one_dtype
from align.losses.kernels.pairing import complete_tuples
from align.losses.loss import Given, apply
from align.losses.wrappers.memory_queue import MemoryQueue
from align.losses.wrappers.negatives import with_negatives
from align.losses.wrappers.wrapper import Wrapper

NEARLY = 1e-5
"""Distance of a cosine from 1 or -1 below which there is no arc: a float32 angle is then off by more than 1 %."""


def geodesic(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Return the point of the arc from b to a at ``share`` of its length, (n, D) (arXiv 2203.03897, section 4, after
    Shoemake 1985):

        m = a·sin(λθ)/sin(θ) + b·sin((1-λ)θ)/sin(θ),  λ = share, θ the angle between a and b

    a, b: (n, D). share: (n,) in [0, 1]. Unit vectors give unit vectors. At θ = 0 it is the line λa + (1-λ)b, to which
    the arc tends. At θ = π, where there is no one arc, it is that line too. Values and gradients are finite everywhere.
    """
    share = share[:, None]  # (n, 1)
    cosine = (F.normalize(a, dim=1, eps=1e-6) * F.normalize(b, dim=1, eps=1e-6)).sum(1, keepdim=True)
    bent = cosine.abs() < 1 - NEARLY
    angle = torch.where(bent, cosine, 0).acos()  # of a safe cosine, as the branch not taken has a gradient too
    on_a, on_b = (torch.sin(part * angle) / torch.sin(angle) for part in (share, 1 - share))
    return torch.where(bent, on_a, share) * a + torch.where(bent, on_b, 1 - share) * b


@final
class MixGeodesic(Wrapper):
    """m²-Mix: a loss between two modalities that also meets rows between them (Oh et al. 2023, arXiv 2203.03897,
    section 4).

    Every pair (a_i, b_i) gives m_i = ``geodesic(a_i, b_i, λ_i)`` with λ_i drawn from Beta(alpha, alpha). On both sides
    m_i is a negative for all anchors but those of its sample and group.

    Two modalities trained contrastively keep to two cones. The empty arc between them holds negatives that are harder
    than any row. Use it to fine-tune a model from such a gap. The paper adds the loss with mixed negatives to the plain
    loss. Here one softmax holds both kinds. It costs the loss of twice the rows.

    In a config:

        pair:
          loss:
            class_path: align.losses.MixGeodesic
            init_args:
              alpha: 0.5
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    Several rows of a sample give a mixed row for every pair of them. λ comes from the generator of the call, the same
    on all ranks. In eval mode it is the loss itself, so validation compares with runs that do not mix.

    Symile is refused: the rows of its tuples agree by their product, not two by two, and a row between two of them is
    no harder than any other row. A queue goes outside, as rows mixed here belong to the groups of this batch only.

    loss: of kind "pairwise".
    alpha: above 0. Small ones mix near a row, large ones near the middle, 1 evenly.

    Raises ValueError for another loss or alpha.
    """

    def __init__(self, loss: nn.Module, alpha: float = 0.5):
        super().__init__(loss)
        if self.kind != "pairwise":
            raise ValueError(
                f"MixGeodesic mixes the two rows of a pair; {type(loss).__name__} is of kind {self.kind!r}: "
                f"give it a loss of kind 'pairwise', as InfoNCE"
            )
        if any(isinstance(part, MemoryQueue) for part in loss.modules()):
            raise ValueError("MixGeodesic goes inside MemoryQueue, not around it: MemoryQueue(MixGeodesic(loss))")
        if self.needs_numbers:
            raise ValueError("MixGeodesic goes inside Bank, not around it: Bank(MixGeodesic(loss))")
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is a positive number; got {alpha}")
        self.alpha = alpha

    def around(self, given: Given) -> Tensor:
        """Return the inner loss of the rows and the mixed rows. In eval mode it is that of the rows alone."""
        if not self.training:
            return apply(self.loss, given)
        check_embeddings(given.embeddings)
        with exact(given.embeddings[0]):
            a, b = at_least_float32(given.embeddings)
            rows_a, rows_b = complete_tuples(given.samples).unbind(1)  # (C,): the pairs of one sample
            share = shares(self.alpha, len(rows_a), given.generator).to(a)
            mixed = geodesic(a[rows_a], b[rows_b], share)  # (C, D)
            alike_a, alike_b = group_ids(given.samples, given.groups)
            # Beside b the mixed rows meet a's anchors, so there they carry the groups of a, and beside a those of b.
            both = with_negatives(
                given._replace(embeddings=one_dtype(given.embeddings), groups=[alike_a, alike_b]),
                [mixed, mixed],
                [alike_b[rows_b], alike_a[rows_a]],
            )
        return apply(self.loss, both)


def shares(alpha: float, count: int, generator: torch.Generator | None) -> Tensor:
    """Return draws from Beta(alpha, alpha), (count,) float64. One number of the generator seeds them."""
    device = None if generator is None else generator.device
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
    return torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))


def group_ids(samples: Sequence[Tensor], groups: Sequence[Tensor] | None) -> list[Tensor]:
    """Return M tensors (n_m,) of group ids: the row's group, one made for its sample where it has none, else -1."""
    lengths = [len(ids) for ids in samples]
    sample = torch.cat(list(samples))
    # Ids are renumbered, as a group's id may be any 63 bits.
    kinds = torch.where(sample >= 0, sample.unique(return_inverse=True)[1], -1)
    if groups is not None:
        group = torch.cat(list(groups))
        kinds = torch.where(group >= 0, len(sample) + group.unique(return_inverse=True)[1], kinds)
    return list(kinds.split(lengths))
