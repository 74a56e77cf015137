"""Centered: the features minus a stored centroid, and a head after it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.values import Features


@final
class Centered(nn.Module):
    """The features minus a centroid of their modality, and ``head`` after it.

    TextME (Hong et al. 2026, arXiv:2602.03098) trains a head on texts alone. It subtracts the centroid of the texts in
    training and that of the pictures or sounds when it embeds those, which closes the gap between the modalities of a
    contrastive space (Liang et al. 2022, arXiv:2203.02053). ``with_centroid`` makes the second head of the first.

    The centroid is a buffer, saved with the weights and never trained. It is zero until ``fit_`` has filled it.
    ``count`` is the number of rows in the mean.

    head: a head, or a callable of width and dim.
    """

    centroid: Tensor
    count: Tensor

    def __init__(self, width: int, dim: int, head: AnyHead = Linear):
        super().__init__()
        self.width, self.dim = width, dim
        self.head = make_inner(head, width, dim)
        self.register_buffer("centroid", torch.zeros(width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def resamples(self) -> bool:
        """True where the head inside chooses the number of its tokens."""
        return getattr(self.head, "resamples", False)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        each = None if features.tokens is None else features.tokens - self.centroid
        return self.head(Features(features.pooled - self.centroid, each, features.mask), tokens=tokens)

    @torch.no_grad()
    def fit_(self, rows: Tensor | Iterable[Tensor]) -> Centered:
        """Set the centroid to the mean of rows (n, W), given as one tensor or in pieces, and return the head.

        The sum is taken in float64. Raises ValueError for rows of another width, for no rows, and for a mean that is
        not finite. Then the centroid stays as it was.
        """
        total, n = torch.zeros(self.width, dtype=torch.float64), 0
        for piece in [rows] if isinstance(rows, Tensor) else rows:
            if piece.ndim != 2 or piece.shape[1] != self.width:
                raise ValueError(f"a centroid is of rows (n, {self.width}), got {tuple(piece.shape)}")
            total += piece.detach().double().sum(0).cpu()
            n += len(piece)
        if not n:
            raise ValueError("a centroid is the mean of one row at least, got none")
        if not total.isfinite().all():
            raise ValueError(f"the mean of {n} rows is not finite; a row has NaN or an infinite number")
        self.centroid.copy_((total / n).to(self.centroid))
        self.count.fill_(n)
        return self

    def with_centroid(self, rows: Tensor | Iterable[Tensor]) -> Centered:
        """Return a copy of this head with the centroid of other rows, as for another modality of the same space."""
        return copy.deepcopy(self).fit_(rows)
