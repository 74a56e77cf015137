"""ImageBind's audio (Girdhar et al. 2023, section 4, as its ``load_and_transform_audio_data``): three clips of 2 s."""

from __future__ import annotations

from fractions import Fraction
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.preprocess.audio_groups import Spectrogram
from align.preprocess.front_ends.base import ClipFrontEnd, Constant
from align.preprocess.front_ends.kaldi import WINDOW, log_bands
from align.preprocess.spectrogram import kaldi_bands

CLIPS = 3
FRAMES = 204


@final
class ImageBindAudio(ClipFrontEnd):
    """(n, 3, 1, n_mels, 204): Kaldi's bands of three clips from the start of a sound to its end, then mean and std.

    A clip of 2 s has 198 frames. Zeros make them 204, also after a shorter sound. In training the clips begin at
    random places. A data worker computes them, because it has the whole sound.

    Traps, all of which are kept in evaluation: the zeros come before mean and std, so they become .467, louder than
    silence. Clip i begins at (duration - 2) · i / 2. pytorchvideo 0.1.5, the release, divides by 3 and never hears the
    end. The commit that ImageBind names divides by 2. Each clip loses its mean in place, so where clips overlap (below
    6 s) the next one has a step of that mean. A step moves a value by up to 1.3 where a recording with an offset of .08
    is quiet. In ESC-10 cut to 2.5 s the largest move of a recording is .002 in the median, and .09 at most. A sound
    below 2 s is three times the same clip. Of a stereo file only the first channel is heard, but the mean that a clip
    loses is that of all channels.

    A sound of less than a frame (25 ms) is all zeros here, and fails there.
    """

    all_channels = True
    fills = False

    def __init__(self, options: Spectrogram, sample_rate: int, samples: int):
        super().__init__(options, sample_rate, samples)
        self.width = int(sample_rate * WINDOW)
        if options.n_fft < self.width:
            raise ValueError(f"n_fft={options.n_fft} is shorter than a frame of {self.width} samples")
        self.frames = FRAMES
        self.shape = (CLIPS, 1, options.n_mels, FRAMES)

    def clip(self, x: Tensor, generator: torch.Generator | None, constant: Constant) -> Tensor:
        hann = constant("hann", x.device, lambda: torch.hann_window(self.width, periodic=False))
        bands = constant("bands", x.device, lambda: kaldi_bands(*self.band_arguments()))
        x, out = torch.atleast_2d(x).clone(), x.new_zeros(CLIPS, FRAMES, self.options.n_mels)
        for i, (start, end) in enumerate(self._places(x.shape[1], generator)):
            part = x[:, start:end] if generator is None else x[:, start:end].clone()
            part -= part.mean()  # in place in evaluation: the next clip sees it
            if part.shape[1] >= self.width:
                log_mel = log_bands(part[:1], hann, bands, self.options)[0]  # (frames, n_mels)
                out[i] = F.pad(log_mel, (0, 0, 0, FRAMES - len(log_mel)))  # a negative width cuts
        return self.scale(out).mT[:, None].contiguous()

    def _places(self, length: int, generator: torch.Generator | None) -> list[tuple[int, int]]:
        """Return start and end of each clip in samples, in the exact arithmetic of pytorchvideo's sampler."""
        seconds = self.samples / self.sample_rate
        last = Fraction(max(length / self.sample_rate - seconds, 0))
        starts = [last * i / (CLIPS - 1) for i in range(CLIPS)]
        if generator is not None:
            starts = [last * Fraction(place) for place in torch.rand(CLIPS, generator=generator).tolist()]
        rate = self.sample_rate
        return [(int(start * rate), int((start + Fraction(seconds)) * rate)) for start in starts]
