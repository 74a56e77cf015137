"""One against all: each modality is as close to its sample as its row is to the span of the other modalities' rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.anchored import Anchored
from align.losses.kernels.anchors import Anchor, contrast_anchors
from align.losses.kernels.inputs import Scale
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32
from align.losses.kernels.parts import Merge

RIDGE = 1e-3
"""Others that differ by less than about √RIDGE count as one direction."""


def span_lengths(anchors: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return (n, C): the length of each anchor's projection on the span of each tuple of the others' rows.

    For unit anchors it is the cosine of the angle between the anchor and the span, from 0 to 1. With X the rows of a
    tuple and v their products with the anchor it is √(vᵀ (X Xᵀ + ε)⁻¹ v), ε = 1e-3. So a direction in which the rows
    barely differ hardly counts, and the gradient is bounded where they are collinear. For a single other row it is
    |cos| / √(1 + ε). It does not tell a vector from its opposite.

    anchors: (n, D). others: k >= 1 tensors (C, D), of unit vectors. It takes k products (n×D)·(D×C).
    """
    anchors, *others = at_least_float32([anchors, *others])
    wide = anchors.dtype if anchors.device.type == "mps" else torch.float64  # differences of nearly equal rows
    rows = torch.stack([x.to(wide) for x in others], 1)  # (C, k, D)
    gram = rows @ rows.mT + RIDGE * torch.eye(len(others), dtype=wide, device=rows.device)
    factor = torch.linalg.cholesky_ex(gram).L  # (C, k, k), without a look at the data
    white = torch.linalg.solve_triangular(factor, rows, upper=False).to(anchors.dtype)  # (C, k, D)
    return torch.linalg.vector_norm(torch.stack([multiply(anchors, x) for x in white.unbind(1)]), dim=0)


def one_vs_all(
    embeddings: Sequence[Tensor],
    scale: Scale,
    *,
    anchor: Anchor = "all",
    samples: Sequence[Tensor] | None = None,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the contrastive loss of each of M >= 2 sets of rows against the span of the others; a 0-d tensor.

    It is the sufficiency term of OVA-IB (Li et al. 2026, arXiv 2605.29900), a bound of the dual total correlation.
    The logit of anchor i and the other modalities' rows of sample j is scale·``span_lengths``. The loss is the mean of
    two cross-entropies, each anchor against all such tuples and each tuple against all anchors, over every modality as
    anchor. The score is defined here from the paper's abstract, as its equations were not at hand. Its other
    term is ``pull_to_mean``.

    When to use it: for modalities that say different parts of a thing. An anchor need not meet each of the others, as
    in pairwise losses, nor must all meet at one point, as in ``gram``. It is enough that the others say it together.
    It still cannot learn what only a product says, as in an exclusive or: a span is linear. A vector and its opposite
    count alike, so a cosine between two rows means less here. Read the space by the span (``how="objective"``) or add
    an ``infonce`` term. It costs M-1 products (n×D)·(D×n) and M n×n matrices for each anchor.

    embeddings: M tensors (n_m, D), unit vectors. Logits are float32 at least, autocast or not.
    scale, anchor, samples, groups, weights, part, merge: as in ``gram``.

    Where nothing is complete, the loss is zero and so are all gradients. Raises ValueError for shapes and options that
    do not fit.
    """
    return contrast_anchors(
        lambda anchors, tuples: -span_lengths(anchors, tuples),
        embeddings,
        scale,
        anchor=anchor,
        samples=samples,
        groups=groups,
        weights=weights,
        part=part,
        merge=merge,
    )


@final
class OneVsAll(Anchored):
    """``one_vs_all`` with a learned temperature that starts at 1/0.07 and ends at 100. In a config::

        terms:
          span: {loss: align.losses.OneVsAll, between: [audio, image, text]}

    anchor: "all", or the place of the anchor in ``between``.
    start_scale, max_scale, learn_scale: None takes the values above.
    """

    kind = "span"
    takes_unpaired = True
    in_parts = True

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
        """Return the 0-d loss of M sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        return one_vs_all(
            embeddings,
            self.scale,
            anchor=self.anchor,
            samples=samples,
            groups=groups,
            weights=weights,
            part=part,
            merge=merge,
        )
