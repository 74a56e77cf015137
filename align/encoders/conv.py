"""Convolutional stages that ImageCNN and SpectrogramCNN share, made for 2 CPU cores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn


@final
class Convolutions(nn.Module):
    """A stack of strided convolutions: (n, channels, H, W) -> (n, widths[-1], ceil(H / stride), ceil(W / stride)).

    The stride is stem · 2^(stages - 1). A stage is a strided convolution and one residual 3x3 convolution (He et al.
    2016, arXiv:1512.03385), each with group normalisation (Wu & He 2018, arXiv:1803.08494) of 8 channels a group and
    ReLU. The convolutions are plain: on a CPU they are faster than depthwise ones with as many parameters. The first
    stage has no residual convolution, which would cost as much as all the rest.
    """

    def __init__(self, channels: int, widths: Sequence[int], stem: int):
        super().__init__()
        if not widths or any(w < 8 or w % 8 for w in widths):
            raise ValueError(f"widths are multiples of 8, one a stage; got {list(widths)}")
        if stem < 1:
            raise ValueError(f"stem, the first stride, must be at least 1, not {stem}")
        self.channels, self.widths, self.stem = channels, widths, stem
        self.stride = stem * 2 ** (len(widths) - 1)
        self.first = _ConvNorm(channels, widths[0], kernel=max(2 * stem - 1, 3), stride=stem)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(_ConvNorm(a, b, kernel=3, stride=2) for a, b in pairs)
        self.stay = nn.ModuleList(_ConvNorm(b, b, kernel=3, stride=1) for _, b in pairs)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the last map, for inputs of a height and a width."""
        return -(-height // self.stride), -(-width // self.stride)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for down, stay in zip(self.down, self.stay, strict=True):
            x = down(x)
            x = x + stay(x)
        return x


@final
class _ConvNorm(nn.Module):
    def __init__(self, channels: int, width: int, *, kernel: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding=(kernel - 1) // 2, bias=False)
        self.norm = nn.GroupNorm(width // 8, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))
