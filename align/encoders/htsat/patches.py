"""Patches of a spectrogram, and the fusion of a long recording with three parts of it (Wu et al. 2023, section 2.3)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

PARTS = 3


@final
class Patches(nn.Module):
    """(n, 1, H, W) -> (n, H / patch, W / patch, C) by one convolution and a layer normalisation."""

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.whole = nn.Conv2d(1, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.whole(x).permute(0, 2, 3, 1))


@final
class FusedPatches(nn.Module):
    """(n, 4, H, W), the whole recording and three parts of it, and (n,) bool -> patches as ``Patches`` has them.

    Patches of the parts are three times as wide, and the maps of the parts stand side by side. Zeros fill the columns
    that are missing. Rows that are False keep the patches of their whole.
    """

    def __init__(self, patch: int, width: int):
        super().__init__()
        self.whole = nn.Conv2d(1, width, patch, patch)
        self.parts = nn.Conv2d(1, width, (patch, PARTS * patch), (patch, PARTS * patch))
        self.fusion = AttentionalFusion(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, fused: Tensor) -> Tensor:
        whole = self.whole(x[:, :1])  # (n, C, h, w)
        parts = self.parts(x[:, 1:].flatten(0, 1)[:, None])  # (n · 3, C, h, w / 3)
        beside = parts.unflatten(0, (-1, PARTS)).permute(0, 2, 3, 1, 4).flatten(3)
        beside = pad(beside, (0, whole.shape[3] - beside.shape[3]))
        both = self.fusion(whole, beside)
        return self.norm(torch.where(fused[:, None, None, None], both, whole).permute(0, 2, 3, 1))


@final
class AttentionalFusion(nn.Module):
    """Twice the weighted mean of two maps (n, C, h, w) (AFF, Dai et al. 2021, arXiv:2009.14082, section 3).

    The weight comes from their sum, at each place and over all places. The factor 2 is LAION's.
    """

    def __init__(self, width: int, squeeze: int = 4):
        super().__init__()
        inner = max(1, width // squeeze)
        self.local = nn.Sequential(*_squeeze(width, inner))
        self.all = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_squeeze(width, inner))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = a + b
        weight = (self.local(both) + self.all(both)).sigmoid()
        return 2 * (a * weight + b * (1 - weight))


def _squeeze(width: int, inner: int) -> list[nn.Module]:
    """Return two pointwise convolutions with batch normalisation."""
    first = [nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner), nn.ReLU()]
    return [*first, nn.Conv2d(inner, width, 1), nn.BatchNorm2d(width)]
