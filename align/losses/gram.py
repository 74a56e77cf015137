"""GRAM: M modalities agree where the parallelotope of their vectors has no volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.anchored import Anchored
from align.losses.kernels.anchors import Anchor, contrast_anchors, root
from align.losses.kernels.inputs import Scale
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact
from align.losses.kernels.parts import Merge


def gram_volume(embeddings: Sequence[Tensor]) -> Tensor:
    """Return √det G with G_kl = <x_k, x_l>, the M-dimensional volume that M vectors span.

    It is the volume of GRAM (Cicchetti et al. 2025, arXiv 2412.11959, section 3). For unit vectors it is 1 where all
    are orthogonal and 0 where one lies in the span of the others. For two vectors it is the sine of their angle. It
    does not tell a vector from its opposite: antiparallel vectors have volume 0 as identical ones have. Where G is
    singular to within rounding, value and gradient are zero.

    embeddings: M >= 1 tensors (..., D) of shapes that broadcast. Returns (...), float32 at least. Raises ValueError
    where there is none.
    """
    if not embeddings:
        raise ValueError("gram_volume takes at least one tensor (..., D); got none")
    with exact(embeddings[0]):
        first, *rest = at_least_float32(embeddings)
        return _volume((first * first).sum(-1), [(first * x).sum(-1) for x in rest], _gram(rest, first))


def volumes(anchors: Tensor, tuples: Sequence[Tensor]) -> Tensor:
    """Return (n, C): ``gram_volume`` of each anchor (n, D) with each of C tuples, given as M-1 tensors (C, D).

    It takes M-1 matrix products, and (M-1)² numbers a pair.
    """
    square = (anchors * anchors).sum(-1)[:, None]  # (n, 1)
    return _volume(square, [multiply(anchors, x) for x in tuples], _gram(tuples, anchors))


def _gram(xs: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the Gram matrix (..., m, m) of m tensors (..., D).

    It is in float64 where the device has it: the determinant is a difference of products.
    """
    wide = like.dtype if like.device.type == "mps" else torch.float64
    if not xs:
        return like.new_zeros(0, 0, dtype=wide)
    xs = torch.broadcast_tensors(*(x.to(wide) for x in xs))
    return torch.stack([torch.stack([(x * y).sum(-1) for y in xs], -1) for x in xs], -2)


def _volume(square: Tensor, cosines: Sequence[Tensor], rest: Tensor) -> Tensor:
    """Return the volume of a vector and others, from its squared length, its products with them and their Gram matrix.

    By the bordered determinant det G = det R·|x|² - vᵀ adj(R) v, with R = ``rest``. It divides by nothing, so it is
    right for a singular R too.
    """
    adjugate, determinant = (x.to(square.dtype) for x in _adjugate(rest))
    places = range(len(cosines))
    squared = determinant * square
    for i, j in itertools.product(places, places):
        squared = squared - adjugate[..., i, j] * cosines[i] * cosines[j]
    with torch.no_grad():  # the bound of the rounding error: the sum without its signs
        terms = determinant.abs() * square
        for i, j in itertools.product(places, places):
            terms = terms + (adjugate[..., i, j] * cosines[i] * cosines[j]).abs()
        largest = rest.diagonal(dim1=-2, dim2=-1).prod(-1).to(square.dtype) * square  # Hadamard's bound of det G
        error = torch.finfo(square.dtype).eps * terms + (len(places) + 1) ** 2 * torch.finfo(rest.dtype).eps * largest
    return root(squared, 4 * error)


def _adjugate(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return adj A (..., m, m) and det A (...), by Faddeev and LeVerrier's recursion.

    It uses products only, so values and gradients are finite where A is singular.
    """
    m = matrix.shape[-1]
    one = torch.eye(m, dtype=matrix.dtype, device=matrix.device)
    coefficient = matrix.new_ones(matrix.shape[:-2])
    adjugate = product = torch.zeros_like(matrix)
    for k in range(1, m + 1):
        adjugate = product + coefficient[..., None, None] * one
        product = matrix @ adjugate
        coefficient = -product.diagonal(dim1=-2, dim2=-1).sum(-1) / k
    return (-1) ** (m + 1) * adjugate, (-1) ** m * coefficient


def gram(
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
    """Return the contrastive loss of M >= 2 sets of rows over minus the volume that they span; a 0-d tensor.

    It is GRAM (Cicchetti et al. 2025, arXiv 2412.11959, section 3). The logit of anchor i and the other modalities'
    rows of sample j is -scale·gram_volume. The loss is the mean of two cross-entropies: each anchor against all such
    tuples, and each tuple against all anchors. The paper fixes one anchor, the text. "all" is the mean over every
    modality as anchor.

    When to use it: for three or more modalities that say the same thing and are to meet at one point. It cannot learn
    what only the combination says, as ``symile`` can. A volume counts a vector and its opposite as aligned, so a cosine
    between two rows means less here. Read the space by the volume (``how="objective"``) or add an ``infonce`` term. It
    costs M-1 products (n×D)·(D×n) and about M² n×n matrices for each anchor.

    embeddings: M tensors (n_m, D), unit vectors. Logits are float32 at least, autocast or not.
    scale: the multiplier, already exponentiated.
    anchor: "all", or the place in embeddings of the one modality to anchor.
    samples: M tensors (n_m,) of ids. Without ids, row i belongs to sample i. Id -1 belongs to no sample and is a
        negative where its modality is the anchor (for M = 2 always). A sample that lacks a modality still serves as
        negative where it can.
    groups: M tensors (n_m,) of ids. An anchor and a tuple of one group (>= 0) are never each other's negatives.
    weights: M tensors (n_m,): how much each anchor counts. A tuple counts the mean of its rows.
    part, merge: as in ``infonce``. A part measures its share of the anchors, so its matrices are that much smaller.

    Where nothing is complete, the loss is zero and so are all gradients. Raises ValueError for shapes and options that
    do not fit.
    """
    return contrast_anchors(
        volumes,
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
class Gram(Anchored):
    """``gram`` with a learned temperature that starts at the paper's 1/0.07 and ends at 100. In a config::

        terms:
          volume: {loss: {class_path: align.losses.Gram, init_args: {anchor: 2}}, between: [audio, image, text]}

    anchor: "all", or the place of the anchor in ``between``: here 2 is the text.
    start_scale, max_scale, learn_scale: None takes the values above.
    """

    kind = "volume"
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
        return gram(
            embeddings,
            self.scale,
            anchor=self.anchor,
            samples=samples,
            groups=groups,
            weights=weights,
            part=part,
            merge=merge,
        )
