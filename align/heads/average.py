"""Average: the mean direction of several heads, mixed with that of a base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.values import Features


@final
class Average(nn.Module):
    """The mean of heads that were trained on several subsets, mixed with a base (FreeBind, Wang et al. 2024,
    arXiv:2405.04883, its mixture of projectors and its combining factor).

    ``u(weight · u(mean of u(head(x))) + (1 - weight) · u(base(x)))``, where u makes unit vectors. FreeBind's published
    code has seven heads for each expert space, and weights from 0.1 to 0.5. Its base is the embedding of another
    encoder. Here the base is a head of the same one: ``align.heads.Identity`` for features that live in the joint space
    already, or any other.

    heads: at least one, each a head or a callable of width and dim. base: None where ``weight`` is 1.

    Raises ValueError for no heads, for a weight outside 0..1, for one below 1 without a base, and for a base that a
    weight of 1 would not read.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        heads: Sequence[AnyHead] = (Linear,),
        base: AnyHead | None = None,
        weight: float = 1.0,
    ):
        super().__init__()
        if not heads:
            raise ValueError("an average needs one head at least; got none")
        if not 0 <= weight <= 1:
            raise ValueError(f"weight is 0 to 1, the share of the heads beside the base; got {weight}")
        if weight < 1 and base is None:
            raise ValueError(
                f"weight {weight} leaves {1 - weight:g} to a base, and there is none; give a base, or weight 1"
            )
        if weight == 1 and base is not None:
            raise ValueError("weight 1 leaves nothing to the base; give a weight below 1, or no base")
        self.width, self.dim, self.weight = width, dim, weight
        self.inside = nn.ModuleList([make_inner(head, width, dim) for head in heads])
        self.base = None if base is None else make_inner(base, width, dim)
        counts = {getattr(head, "resamples", False) for head in (*self.inside, *([self.base] if self.base else []))}
        if len(counts) > 1:
            raise ValueError("heads that choose the number of their tokens cannot be averaged with heads that do not")
        self.resamples = counts.pop()

    @property
    def heads(self) -> list[nn.Module]:
        """The heads, as the constructor takes them."""
        return list(self.inside)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        outs = [head(features, tokens=tokens) for head in self.inside]
        base = None if self.base is None else self.base(features, tokens=tokens)
        if not tokens:
            return self._mix(outs, base)
        pooled, each = zip(*outs, strict=True)
        of_base = (None, None) if base is None else base
        return self._mix(pooled, of_base[0]), self._mix(each, of_base[1])

    def _mix(self, outs: Sequence[Tensor], base: Tensor | None) -> Tensor:
        mean = _unit(torch.stack([_unit(x) for x in outs]).mean(0))  # (..., D)
        return mean if base is None else _unit(self.weight * mean + (1 - self.weight) * _unit(base))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=1e-6)
