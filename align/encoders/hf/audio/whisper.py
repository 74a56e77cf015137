"""Whisper's encoder (Radford et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from torch import Tensor

from align.encoders.hf.audio.base import AudioKind, first, mean_of_real
from align.values import Features

STRIDE = 320  # samples of one token: a hop of 160, halved by the second convolution


@final
class Whisper(AudioKind):
    """Whisper's encoder: (n, 1, n_mels, 3000) -> 1500 tokens, and their mean over the sound without its padding.

    The library has no pooled features. The window is always 30 s, because the positions are of that length.
    """

    preset = front_end = "whisper"
    sample_rate = 16000
    settings: ClassVar[Mapping[str, str]] = {
        "feature_size": "n_mels",
        "sampling_rate": "sample_rate",
        "hop_length": "hop",
        "chunk_length": "seconds",
        "n_fft": "n_fft",
    }
    of = "models.whisper.modeling_whisper.WhisperEncoder"
    prefixes = ("model.encoder.", "encoder.")

    def sizes(self, config: Any) -> dict[str, int]:
        return {"width": config.d_model, "n_mels": config.num_mel_bins, "frames": 2 * config.max_source_positions}

    def encode(self, model: Any, values: Tensor, lengths: Tensor) -> Features:
        tokens = model(values[:, 0]).last_hidden_state  # (n, L, W)
        real = first((lengths + STRIDE - 1) // STRIDE, tokens.shape[1])
        return Features(mean_of_real(tokens, real), tokens, real)
