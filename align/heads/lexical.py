"""Lexical: an embedding with one weight of 0 or more for each word of a vocabulary, most of them zero."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Lexical(nn.Module):
    """log(1 + ReLU(x)) of a projection to a vocabulary, and the greatest over the tokens (SPLADE v2, Formal et al.
    2021, arXiv:2109.10086, its max pooling). LexVLA embeds pictures in a vocabulary so.

    The model's ``dim`` is the size of the vocabulary. Beside a ``Flops`` term most entries of a row are zero, so that
    an inverted index finds it (``align.search.inverted``). ``Concepts`` around it gives the entries names.
    Without tokens, the pooled features are the only one. A row without a real token reads all of them.

    bias: begins at this number, as a row of zeros has no direction and no gradient.
    """

    def __init__(self, width: int, dim: int, bias: float = 0.1):
        super().__init__()
        self.width, self.dim, self.bias = width, dim, bias
        self.project = nn.Linear(width, dim)
        nn.init.normal_(self.project.weight, std=width**-0.5)
        nn.init.constant_(self.project.bias, bias)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        given = features.pooled[:, None] if features.tokens is None else features.tokens
        real = features.mask if features.tokens is not None else None
        if real is not None:
            real = real | ~real.any(1, keepdim=True)
            given = given.masked_fill(~real[..., None], 0)  # padding may be NaN, which a product keeps
        x = self.project(given)  # (n, L, D)
        if real is not None:
            x = x.masked_fill(~real[..., None], -torch.inf)
        pooled = F.relu(x.amax(1)).log1p()  # (n, D): both functions rise, so the maximum may come first
        if not tokens:
            return pooled
        return pooled, F.relu(self.project(read_tokens(features))).log1p()

    def weigh(self, features: Features) -> Tensor:
        """Return the weights of the words (n, D)."""
        pooled = self(features)
        assert isinstance(pooled, Tensor)
        return pooled
