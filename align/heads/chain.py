"""Chain: a head on the embeddings of another head."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.values import Features


@final
class Chain(nn.Module):
    """A head on the embeddings of another: ``then(u(first(x)))``, where u makes unit vectors if ``unit``.

    A head that was fitted on cached embeddings needs the head that made them before it. ``align bind`` chains the two,
    so that the tower reads raw inputs.

    middle: numbers between the two heads. None: ``width``. first, then: heads, or callables of width and dim.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        first: AnyHead = Linear,
        then: AnyHead = Linear,
        middle: int | None = None,
        unit: bool = True,
    ):
        super().__init__()
        self.width, self.dim, self.middle, self.unit = width, dim, middle, unit
        self.first = make_inner(first, width, middle or width)
        self.then = make_inner(then, middle or width, dim)

    @property
    def resamples(self) -> bool:
        """True where one of the heads chooses the number of its tokens."""
        return any(getattr(head, "resamples", False) for head in (self.first, self.then))

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        if not tokens:
            return self.then(Features(self._between(self.first(features))))
        pooled, each = map(self._between, self.first(features, tokens=True))
        mask = None if getattr(self.first, "resamples", False) else features.mask
        return self.then(Features(pooled, each, mask), tokens=True)

    def _between(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1, eps=1e-6) if self.unit else x
