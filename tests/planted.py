"""A planted space with hubs: queries, a bank of others of their kind, and candidates of which a few lie near all."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def hubs(n: int = 120, bank: int = 400, dim: int = 16, seed: int = 0, pull: float = 0.9):
    """Return queries (n, D), bank (b, D) and candidates (n, D), where candidate i is right for query i.

    All queries share a direction, as those of a modality do. The first tenth of the candidates leans to it.
    """
    draw = torch.Generator().manual_seed(seed)
    common = F.normalize(torch.randn(dim, generator=draw), dim=0)
    right = torch.randn(n, dim, generator=draw) / dim**0.5
    queries = right + 0.35 * torch.randn(n, dim, generator=draw) / dim**0.5 + common
    others = torch.randn(bank, dim, generator=draw) / dim**0.5 * 1.06 + common
    candidates = right.clone()
    candidates[: n // 10] += pull * common
    return F.normalize(queries, dim=1), F.normalize(others, dim=1), candidates


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
