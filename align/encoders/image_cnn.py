"""ImageCNN: a small convolutional net for small images, trained from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.conv import ConvTrunk
from align.values import Features


@final
class ImageCNN(Encoder):
    """(n, channels, H, W) -> mean over the last feature map; its positions are the tokens, row by row.

    widths: channels of each stage, multiples of 8; each stage after the first halves the map. stem: stride of the first
    convolution: 4 for images of 64 pixels, 2 for 28.
    """

    def __init__(self, width: int = 128, channels: int = 3, widths: Sequence[int] = (32, 64, 128), stem: int = 4):
        super().__init__()
        self.width, self.channels, self.widths, self.stem = width, channels, widths, stem
        self.trunk = ConvTrunk(channels, widths, stem)
        self.norm = nn.LayerNorm(widths[-1])
        self.out = nn.Linear(widths[-1], width)

    def encode(self, values: Tensor) -> Features:
        tokens = self.out(self.norm(self.trunk(values).flatten(2).mT))  # (n, h · w, W)
        return Features(tokens.mean(1), tokens)
