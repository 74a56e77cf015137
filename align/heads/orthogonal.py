"""Orthogonal: the embeddings of another head, turned by a learned rotation."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.values import Features


@final
class Orthogonal(nn.Module):
    """A head and a learned rotation after it, ``Q · head(x)`` with Q = exp(A - Aᵀ) (Ricci et al. 2024, OCA,
    arXiv:2408.08793, the orthogonal transformation layer).

    Use it for a model that replaces an earlier one. Its ``dim`` is that of the earlier model and some more. A term
    holds the first coordinates of ``Q · head(x)`` to the earlier model's embeddings, and the further ones are free. A
    rotation changes no product of two rows of its modality, so the space can turn towards the earlier one without
    another shape. Q begins as the identity.

    A is (D, D). The exponential is of float32 at least, and costs some 10·D³ a call.

    head: a head, or a callable of width and dim.
    """

    def __init__(self, width: int, dim: int, head: AnyHead = Linear):
        super().__init__()
        self.width, self.dim = width, dim
        self.head = make_inner(head, width, dim)
        self.turn = nn.Parameter(torch.zeros(dim, dim))

    @property
    def resamples(self) -> bool:
        """True where the head inside chooses the number of its tokens."""
        return getattr(self.head, "resamples", False)

    def rotation(self) -> Tensor:
        """Return Q, (D, D): Q Qᵀ = 1, and its determinant is 1."""
        with torch.autocast(self.turn.device.type, enabled=False):
            turn = self.turn.to(torch.promote_types(self.turn.dtype, torch.float32))
            skew = turn - turn.T
            return _exponential(skew) if torch.compiler.is_exporting() else torch.linalg.matrix_exp(skew)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        rotation = self.rotation()
        if not tokens:
            return self._turn(self.head(features), rotation)
        pooled, each = self.head(features, tokens=True)
        return self._turn(pooled, rotation), self._turn(each, rotation)

    def _turn(self, x: Tensor, rotation: Tensor) -> Tensor:
        return x @ rotation.T.to(x.dtype)  # (..., D)


def _exponential(x: Tensor, halvings: int = 8, order: int = 10) -> Tensor:
    """Return exp(x) of (D, D) by products alone, since ONNX has no such operator: the series of x / 2^8, squared."""
    wide = x.double() / 2**halvings
    power = total = torch.eye(x.shape[0], dtype=torch.float64, device=x.device)
    for k in range(1, order + 1):
        power = power @ wide / k
        total = total + power
    for _ in range(halvings):
        total = total @ total
    return total.to(x.dtype)
