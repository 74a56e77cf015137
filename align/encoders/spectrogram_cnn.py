"""SpectrogramCNN: a small convolutional net over log-mel spectrograms, trained from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.conv import ConvTrunk
from align.values import Features


@final
class SpectrogramCNN(Encoder):
    """(n, 1, n_mels, T) -> mean over time; a time step of the last feature map, all its frequencies, is a token.

    Any T. Frequencies are not pooled: unlike a place in an image, a pitch has a meaning. widths, stem: as ImageCNN.
    """

    def __init__(
        self,
        width: int = 128,
        n_mels: int = 64,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        stem: int = 4,
    ):
        super().__init__()
        self.width, self.n_mels, self.channels, self.widths, self.stem = width, n_mels, channels, widths, stem
        self.trunk = ConvTrunk(channels, widths, stem)
        bands = -(-n_mels // self.trunk.stride)  # rounded up
        self.norm = nn.LayerNorm(widths[-1] * bands)
        self.out = nn.Linear(widths[-1] * bands, width)

    def encode(self, values: Tensor) -> Features:
        if values.shape[-2] != self.n_mels:
            raise ValueError(f"SpectrogramCNN was made for {self.n_mels} mel bands, got {tuple(values.shape)}")
        tokens = self.out(self.norm(self.trunk(values).flatten(1, 2).mT))  # (n, t, W)
        return Features(tokens.mean(1), tokens)
