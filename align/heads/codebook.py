"""Codebook: an embedding as a sparse sum of codes that all modalities share."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from align.heads.sparsemax import sparsemax
from align.heads.tokens import read_tokens
from align.values import Features


@final
class CodeTable(nn.Module):
    """The codes (C, D). Heads of several towers share one by ``JointModel(tied=...)``."""

    def __init__(self, codes: int, dim: int):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(codes, dim) * dim**-0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sum of the codes (n, D) and their weights (n, C). x: (n, L, D), mask: (n, L) bool or None."""
        relevance = x @ self.codes.T * x.shape[-1] ** -0.5  # (n, L, C)
        if mask is not None:
            relevance = relevance.masked_fill(~mask[..., None], -torch.inf)
        best = relevance.amax(1)  # (n, C): how much a code is anywhere
        weights = sparsemax(best.float() if best.element_size() < 4 else best).to(x.dtype)
        return weights @ self.codes, weights


@final
class Codebook(nn.Module):
    """The sum of a few codes of a table that the modalities share: finite discrete tokens (Chen et al. 2023,
    arXiv:2303.14865, section 3.2).

    Each token of a picture, a sound or a text is projected and compared with every code. A code's relevance is its
    greatest product with a token, divided by √D as in attention. Sparsemax makes weights of these, most of them zero,
    and the embedding is the sum of the codes by their weights. Without tokens, the pooled features are the only one.
    A row without a real token reads all of them.

    Towers share one table by the model's ``tied: {text.head.table: image.head.table}``. Each has one of its own
    without it. With ``tokens`` the head gives (n, L, D), each token alone.

    codes: C, the number of codes.
    """

    def __init__(self, width: int, dim: int, codes: int = 256):
        super().__init__()
        if codes < 2:
            raise ValueError(f"a codebook has two codes or more; got {codes}")
        self.width, self.dim, self.codes = width, dim, codes
        self.project = nn.Linear(width, dim)
        self.table = CodeTable(codes, dim)
        nn.init.normal_(self.project.weight, std=width**-0.5)
        nn.init.zeros_(self.project.bias)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self._read(features)[0]  # (n, D)
        if not tokens:
            return pooled
        each = self.project(read_tokens(features))  # (n, L, D)
        alone = self.table(each.flatten(0, 1)[:, None])[0]  # (n · L, D)
        return pooled, alone.view_as(each)

    def weigh(self, features: Features) -> Tensor:
        """Return the weights of the codes (n, C), which are 0 or more and sum to 1. A code fires where it is not 0."""
        return self._read(features)[1]

    def _read(self, features: Features) -> tuple[Tensor, Tensor]:
        if features.tokens is None:
            return self.table(self.project(features.pooled[:, None]))
        x, real = features.tokens, features.mask
        if real is not None:
            real = real | ~real.any(1, keepdim=True)
            x = x.masked_fill(~real[..., None], 0)  # padding may be NaN, which a product keeps
        return self.table(self.project(x), real)
