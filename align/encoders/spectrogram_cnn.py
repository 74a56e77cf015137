"""SpectrogramCNN: a small convolutional net over log-mel spectrograms, trained from scratch on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.conv import Convolutions
from align.values import Features


@final
class SpectrogramCNN(Encoder):
    """A convolutional net: (n, 1, n_mels, T) -> the mean and maximum over time of the last feature map.

    A time step of the map, with all its frequencies, is a token. A token equals the pooled features of its step alone.
    Any T. Frequencies are not pooled: unlike a place in an image, a pitch has a meaning.

    widths, stem: as in ImageCNN.
    """

    lengths = False  # takes a tensor alone

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
        self.maps = Convolutions(channels, widths, stem)
        features = 2 * widths[-1] * -(-n_mels // self.maps.stride)  # rounded up
        self.norm = nn.LayerNorm(features)
        self.out = nn.Linear(features, width)

    def grid_of(self, values: Tensor) -> tuple[int, int]:
        """Return one row of time steps."""
        return 1, self.maps.sides(*values.shape[-2:])[1]

    def encode(self, values: Tensor) -> Features:
        if values.shape[-2] != self.n_mels:
            raise ValueError(f"SpectrogramCNN was made for {self.n_mels} mel bands, got {tuple(values.shape)}")
        steps = self.maps(values).flatten(1, 2).mT  # (n, t, C · bands)
        both = torch.cat([steps.mean(1), steps.amax(1)], -1)
        return Features(self.out(self.norm(both)), self.out(self.norm(steps.repeat(1, 1, 2))))
