"""Waves as they are, for encoders that read samples (wav2vec 2.0, PE-AV)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import Constant, FrontEnd


@final
class Wave(FrontEnd):
    """``{"values": (n, T), "lengths": (n,)}`` float32 in [-1, 1] of windows that begin with the sound.

    T is that of the longest sound of the batch, a multiple of ``hop``. So its encoders must leave out the padding.

    Traps (PE-AV): a sound is reflected at its end to a multiple of 1920 samples, and the reflection counts as sound.
    In a batch of sounds of several lengths transformers' convolutions see the padding, which shifts the values of the
    last frames. Here a sound has the values that transformers gives it alone. Its library cuts no sound. Here the first
    30 s are heard, unless ``seconds`` says otherwise.
    """

    needs_length = gives_length = True

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.n_mels, self.shape = None, (samples,)

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        if torch.compiler.is_compiling():  # a graph has no length of its own
            return waves
        hop = self.options.hop
        longest = -(-int(lengths.max()) // hop) * hop
        return waves[:, : max(longest, hop)]
