"""Stems of ImageBind's towers: rows become tokens (n, L, W) with a learned position each."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}


class Patches(nn.Module):
    """Patches of rows behind a class token (Dosovitskiy et al. 2021, arXiv:2010.11929, equation 1), normalised where
    ``norm``.

    row: (channels, *sides). kernel, stride: of a patch, one number a side. A series has one side.
    """

    def __init__(self, row: Sequence[int], kernel: Sequence[int], stride: Sequence[int], width: int, norm: bool):
        super().__init__()
        channels, *sides = row
        if not len(kernel) == len(stride) == len(sides) or min(*kernel, *stride) < 1:
            raise ValueError(f"kernel and stride need {len(sides)} numbers of at least 1, not {kernel} and {stride}")
        patches = prod((side - k) // s + 1 for side, k, s in zip(sides, kernel, stride, strict=True))
        self.read = (
            Windows(channels, kernel[0], stride[0], width)
            if len(sides) == 1
            else CONVOLUTIONS[len(sides)](channels, width, tuple(kernel), tuple(stride), bias=False)
        )
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()  # eps is 1e-5 here, 1e-6 in all other places
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, 1 + patches, width))
        nn.init.normal_(self.first, std=width**-0.5)
        nn.init.normal_(self.position, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, 1 + patches, W) of (n, channels, *sides)."""
        patches = self.norm(self.read(x).flatten(2).mT)  # (n, patches, W), rows of patches one after the other
        first = self.first.to(patches.dtype).expand(patches.shape[0], -1, -1)
        return torch.cat([first, patches], 1) + self.position


class Windows(nn.Linear):
    """A matrix over windows of a series: (n, channels, T) -> (n, W, windows). Its columns go channel by channel."""

    def __init__(self, channels: int, kernel: int, stride: int, width: int):
        super().__init__(channels * kernel, width, bias=False)
        self.kernel, self.stride = kernel, stride

    def forward(self, input: Tensor) -> Tensor:
        windows = input.unfold(-1, self.kernel, self.stride)  # (n, channels, windows, kernel)
        return super().forward(windows.transpose(1, 2).flatten(2)).mT


class Words(nn.Module):
    """Token ids (n, context) -> their learned vectors, each at its position (n, context, W)."""

    def __init__(self, vocabulary: int, context: int, width: int):
        super().__init__()
        self.read = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(1, context, width))
        nn.init.normal_(self.read.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)

    def forward(self, ids: Tensor) -> Tensor:
        return self.read(ids) + self.position
