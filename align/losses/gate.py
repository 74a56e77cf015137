"""The gate of Gated Symile: how much a modality's row counts for a candidate of another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.multiply import multiply

Gate = Callable[[Tensor, Tensor, int, int], Tensor]
"""Candidates (n, D), rows (C, D) of another modality, the places of both -> shares (n, C) of the rows, 0 to 1."""


@final
class AttentionGate(nn.Module):
    """The attention gate of Gated Symile (Rheude et al. 2026, arXiv 2604.05834) with its option of none at all.

    For a candidate c of modality m and a row x of modality o

        w = sigmoid(<q, k> / τ) · (1 - sigmoid(null / τ)),   share = 1 - α·(1 - w)

    with q = W_m c and k = V_o x at unit length and null a linear function of c (the paper's is a small MLP). α starts
    at sigmoid(-3) = 0.05, so the gate is nearly open at first, and τ at 0.7 + 0.1, at which w tells rows apart.

    dim: D. modalities: M. width: coordinates of q and k.
    """

    def __init__(self, dim: int, modalities: int, width: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(modalities, width, dim) * dim**-0.5)
        self.key = nn.Parameter(torch.randn(modalities, width, dim) * dim**-0.5)
        self.null = nn.Parameter(torch.zeros(modalities, dim))
        self.null_bias = nn.Parameter(torch.zeros(modalities, 1))
        self.sharpness = nn.Parameter(torch.full((1,), math.log(math.expm1(0.7))))  # τ = softplus(it) + 0.1
        self.strength = nn.Parameter(torch.full((1,), -3.0))

    def forward(self, candidates: Tensor, rows: Tensor, of: int, other: int) -> Tensor:
        """Return the share (n, C) of each row (C, D) of modality ``other`` for each candidate (n, D) of ``of``."""
        query, key, null, bias = (x.to(candidates) for x in (self.query, self.key, self.null, self.null_bias))
        heat = F.softplus(self.sharpness.to(candidates)) + 0.1  # (1,)
        q = F.normalize(multiply(candidates, query[of]), dim=1, eps=1e-6)  # (n, width)
        k = F.normalize(multiply(rows, key[other]), dim=1, eps=1e-6)  # (C, width)
        nothing_fits = torch.sigmoid((candidates @ null[of] + bias[of]) / heat)  # (n,)
        fits = torch.sigmoid(multiply(q, k) / heat) * (1 - nothing_fits)[:, None]  # (n, C)
        return 1 - torch.sigmoid(self.strength.to(candidates)) * (1 - fits)
