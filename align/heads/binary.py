"""Binary: embeddings of +1 and -1, trained through the sign."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.values import Features


@final
class Binary(nn.Module):
    """The signs of another head's embeddings, +1 for zero, with a straight-through gradient (Bengio et al. 2013,
    arXiv:1308.3432, section 4, with the limit of Hubara et al. 2016, arXiv:1602.02830, equation 4).

    Forward it is the sign. Backward it is the identity where |x| <= limit, and zero beyond. D bits make a row, and
    ``align.search.hamming`` compares rows by counting the bits that differ.

    through: "sign" takes the sign in training and evaluation. "dense" trains the head inside as it is, and takes the
        sign in evaluation alone: the baseline.
    limit: None lets every gradient through.
    head: a head, or a callable of width and dim.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        head: AnyHead = Linear,
        through: Literal["sign", "dense"] = "sign",
        limit: float | None = None,
    ):
        super().__init__()
        if through not in ("sign", "dense"):
            raise ValueError(f"through is sign or dense, not {through!r}")
        if limit is not None and not limit > 0:
            raise ValueError(f"limit is a positive number or None, not {limit}")
        self.width, self.dim, self.through, self.limit = width, dim, through, limit
        self.head = make_inner(head, width, dim)

    @property
    def resamples(self) -> bool:
        """True where the head inside chooses the number of its tokens."""
        return getattr(self.head, "resamples", False)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        out = self.head(features, tokens=tokens)
        if self.training and self.through == "dense":
            return out
        if not tokens:
            return take_sign(out, self.limit)
        return take_sign(out[0], self.limit), take_sign(out[1], self.limit)


def take_sign(x: Tensor, limit: float | None = None) -> Tensor:
    """Return +1 where ``x`` is 0 or more, else -1, with the gradient of ``x`` where |x| <= limit."""
    sign = torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    passed = x if limit is None else x.clamp(-limit, limit)
    return sign + (passed - passed.detach())
