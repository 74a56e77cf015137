"""Whisper's log-mel spectrogram (Radford et al. 2023, section 2.2), as its code and transformers compute it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import Constant, FrontEnd
from align.preprocess.spectrogram import slaney_bands

RANGE = 8.0  # decades below the loudest value of the window


@final
class Whisper(FrontEnd):
    """``{"values": (n, 1, n_mels, frames), "lengths": (n,)}`` of windows that begin with the sound.

    Slaney's bands with equal area, log10, everything more than 8 decades below the window's loudest value raised to
    there, then (x + 4) / 4: ``mean=-4, std=4``. The window is reflected at both ends and its last frame is dropped.

    Traps: the floor follows the loudest value, so a click changes how silence looks. The silence after a short sound is
    part of the input (the model has no mask), and only the pooling leaves it out. large-v3 has 128 bands, others 80.
    """

    needs_length = gives_length = True

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.frames = samples // options.hop
        self.shape = (1, options.n_mels, self.frames)
        if samples <= options.n_fft // 2:
            raise ValueError(f"a window of {samples} samples is too short for n_fft={options.n_fft}")

    def apply(self, waves: Tensor, lengths: Tensor, constant: Constant) -> Tensor:
        options = self.options
        hann = constant("hann", waves.device, lambda: torch.hann_window(options.n_fft))
        bands = constant("bands", waves.device, self._bands)  # (n_mels, n_fft // 2 + 1)
        spectrum = torch.stft(waves, options.n_fft, options.hop, window=hann, return_complex=True)
        power = (spectrum[..., : self.frames].abs() ** 2).contiguous()
        log_mel = (bands @ power).clamp(min=options.floor).log10()  # (n, n_mels, frames)
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - RANGE)
        return self.scale(log_mel)[:, None]

    def _bands(self) -> Tensor:
        return slaney_bands(*self.band_arguments()).float()
