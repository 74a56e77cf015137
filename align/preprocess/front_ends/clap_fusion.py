"""CLAP's feature fusion (Wu et al. 2023, section 2.3): the whole clip made short, and three parts of it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import ClipFrontEnd, Constant
from align.preprocess.front_ends.clap import decibels
from align.preprocess.spectrogram import htk_bands


@final
class ClapFusion(ClipFrontEnd):
    """(n, 4, n_mels, frames): the whole spectrogram shrunk to one window, then one window of each third.

    A window begins in the middle of its third of all possible starts, in training at a random place of it. A clip of
    one window or less has four times the same. Bands are HTK's, in decibels. A data worker computes them, because it
    has the whole clip.

    Traps: transformers draws the three windows at random, so no two of its calls agree. It marks the sounds that are
    longer than 10 s, and the mark switches the model's fusion on. Where a batch has none, it marks one at random, hence
    always a sound alone. Here every sound is marked, so that the batch does not matter.
    """

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.shape = (4, options.n_mels, self.frames)

    def clip(self, x: Tensor, generator: torch.Generator | None, constant: Constant) -> Tensor:
        bands = constant("bands", x.device, lambda: htk_bands(*self.band_arguments()))
        mel = self.scale(decibels(x[None], self.options, bands, constant))[0].T  # (all frames, n_mels)
        T = self.frames
        if len(mel) <= T:
            return mel.T.expand(self.shape).contiguous()
        whole = interpolate(mel[None, None], size=(T, mel.shape[1]), mode="bilinear", align_corners=False)[0, 0]
        starts = part_starts(len(mel) - T + 1, generator)
        return torch.stack([whole, *(mel[start : start + T] for start in starts)]).mT.contiguous()

    def middle(self, mel: Tensor) -> Tensor:
        return mel.mean(dim=(-2, -1), keepdim=True)


def part_starts(places: int, generator: torch.Generator | None) -> list[int]:
    """Return the starts of the front, the middle and the back window, one in each third of ``places`` possible ones.

    Each is the middle of its third, with a generator a random one of it. A third without a place begins at 0.

    >>> part_starts(9, None), part_starts(1, None)
    ([1, 4, 7], [0, 0, 0])
    """
    starts, first = [], 0
    for third in range(3):
        size = places // 3 + (third < places % 3)  # the first thirds take the rest, as numpy.array_split has it
        shift = size // 2 if generator is None else int(torch.randint(max(size, 1), (), generator=generator))
        starts.append(first + shift if size else 0)
        first += size
    return starts
