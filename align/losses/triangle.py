"""TRIANGLE: three modalities agree where the triangle between their vectors has no area."""

from __future__ import annotations

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


def triangle_area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the area of the triangle whose corners are the ends of three vectors, ½·√(|u|²|v|² - <u, v>²).

    Here u = b - a and v = c - a (Cicchetti et al. 2025, TRIANGLE, arXiv 2509.24734). For unit vectors it is at most
    3√3/4, and 0 where two of them coincide, whatever the third is. Antiparallel vectors do not coincide: unlike a
    volume, an area tells a vector from its opposite. Where the triangle is flat to within rounding, value and gradient
    are zero.

    a, b, c: (..., D) of shapes that broadcast. Returns (...), float32 at least.
    """
    with exact(a):
        a, b, c = at_least_float32([a, b, c])
        u, v = b - a, c - a
        return _area((u * u).sum(-1), (v * v).sum(-1), (u * v).sum(-1), torch.zeros((), device=a.device))


def areas(anchors: Tensor, tuples: Sequence[Tensor]) -> Tensor:
    """Return (n, C): ``triangle_area`` of each anchor (n, D) with each of C pairs, given as two tensors (C, D).

    It takes two matrix products, and a few numbers a pair.
    """
    b, c = tuples
    ab, ac = multiply(anchors, b), multiply(anchors, c)  # (n, C)
    aa, bb, cc, bc = (anchors * anchors).sum(-1)[:, None], (b * b).sum(-1), (c * c).sum(-1), (b * c).sum(-1)
    rounding = 8 * torch.finfo(ab.dtype).eps * (aa + bb + cc).detach()  # of u² and v² as differences
    return _area(aa + bb - 2 * ab, aa + cc - 2 * ac, aa - ab - ac + bc, rounding)


def _area(u: Tensor, v: Tensor, uv: Tensor, rounding: Tensor) -> Tensor:
    """Return the area from two squared lengths and the product, where the lengths are off by ``rounding`` already."""
    size = u.detach().clamp(min=0) + v.detach().clamp(min=0)
    error = rounding * (size + rounding) + 4 * torch.finfo(u.dtype).eps * size * size
    return root(u * v - uv * uv, error) / 2


def triangle(
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
    """Return the contrastive loss of three sets of rows over minus the area between them; a 0-d tensor.

    It is TRIANGLE (Cicchetti et al. 2025, arXiv 2509.24734): ``gram`` with ``triangle_area`` in place of the volume.

    When to use it: for three modalities that say the same thing. An area is 0 as soon as two of the three coincide, so
    a sample can look aligned while one modality is not. The paper adds cosine terms, and so should you (``infonce``, in
    a second term). It costs two products (n×D)·(D×n) and a few n×n matrices for each anchor.

    embeddings: three tensors (n_m, D), unit vectors. Logits are float32 at least, autocast or not.
    scale, anchor, samples, groups, weights, part, merge: as in ``gram``.

    Where nothing is complete, the loss is zero and so are all gradients. Raises ValueError for shapes and options that
    do not fit.
    """
    if len(embeddings) != 3:
        raise ValueError(f"a triangle has three modalities; got {len(embeddings)}")
    return contrast_anchors(
        areas,
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
class Triangle(Anchored):
    """``triangle`` with a learned temperature that starts at 1/0.07 and ends at 100. In a config::

        terms:
          area: {loss: align.losses.Triangle, between: [audio, image, text]}
          pairs: {loss: align.losses.InfoNCE, between: [audio, image, text]}

    anchor: "all", or the place of the anchor in ``between``.
    start_scale, max_scale, learn_scale: None takes the values above.
    """

    kind = "area"
    takes_unpaired = True
    in_parts = True
    modalities = 3

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
        """Return the 0-d loss of three sets of rows: embeddings (n_m, D), samples, groups and weights (n_m,)."""
        return triangle(
            embeddings,
            self.scale,
            anchor=self.anchor,
            samples=samples,
            groups=groups,
            weights=weights,
            part=part,
            merge=merge,
        )
