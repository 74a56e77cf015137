"""ImageCNN: a small convolutional net for small images, trained from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.conv import Convolutions
from align.values import Features


@final
class ImageCNN(Encoder):
    """A convolutional net: (n, channels, H, W) -> the mean and maximum over the last feature map.

    The positions of the map are the tokens, row by row. A token equals the pooled features of its position alone. The
    maximum matters: on 64-pixel renderings of solids, 350 steps give 0.90 of the shapes right, 0.74 without it.

    widths: channels of each stage, multiples of 8. Each stage after the first halves the map.
    stem: stride of the first convolution. Take 4 for images of 64 pixels, 2 for 28.
    """

    def __init__(self, width: int = 128, channels: int = 3, widths: Sequence[int] = (32, 64, 128), stem: int = 4):
        super().__init__()
        self.width, self.channels, self.widths, self.stem = width, channels, widths, stem
        self.maps = Convolutions(channels, widths, stem)
        self.norm = nn.LayerNorm(2 * widths[-1])
        self.out = nn.Linear(2 * widths[-1], width)

    def grid_of(self, values: Tensor) -> tuple[int, int]:
        return self.maps.sides(*values.shape[-2:])

    def encode(self, values: Tensor) -> Features:
        grid = self.maps(values).flatten(2).mT  # (n, h · w, C)
        both = torch.cat([grid.mean(1), grid.amax(1)], -1)  # (n, 2 C)
        return Features(self.out(self.norm(both)), self.out(self.norm(grid.repeat(1, 1, 2))))
