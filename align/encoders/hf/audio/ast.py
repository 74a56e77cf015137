"""The Audio Spectrogram Transformer (Gong et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor

from align.encoders.hf.audio.base import AudioKind
from align.encoders.weights import read_weights
from align.values import Features

BASE = "audio_spectrogram_transformer"
WINDOW, HOP = 0.025, 0.010  # seconds of a frame of Kaldi's, and from one to the next


@final
class AST(AudioKind):
    """AST: (n, 1, 128, 1024) -> the mean of the class and the distillation token, with the patches as tokens."""

    preset, front_end = "ast", "kaldi"
    sample_rate = 16000
    settings: ClassVar[Mapping[str, str]] = {"num_mel_bins": "n_mels", "sampling_rate": "sample_rate", "mean": "mean"}
    of = "ASTModel"
    prefixes = ()
    heads = ("classifier",)

    def sizes(self, config: Any) -> dict[str, int]:
        return {"width": config.hidden_size, "n_mels": config.num_mel_bins, "frames": config.max_length}

    def encode(self, model: Any, values: Tensor, lengths: Tensor) -> Features:
        out = model(values[:, 0].mT)
        return Features(out.pooler_output, out.last_hidden_state[:, 2:])

    def read(self, path: Path) -> dict[str, Tensor]:
        return {name.removeprefix(f"{BASE}."): x for name, x in read_weights(path).items()}

    def arguments(self, processor: Mapping[str, Any]) -> dict[str, Any]:
        found = super().arguments(processor)
        if "std" in processor:
            found["std"] = 2 * processor["std"]  # the processor divides by twice the number that it states
        if processor.get("do_normalize") is False:
            found |= {"mean": 0.0, "std": 1.0}
        rate = processor.get("sampling_rate", 16000)
        width, hop = int(rate * WINDOW), int(rate * HOP)
        if "max_length" in processor:
            found["seconds"] = (width + (processor["max_length"] - 1) * hop) / rate
        if rate != 16000:
            found |= {"hop": hop, "n_fft": 1 << (width - 1).bit_length(), "f_max": rate / 2}
        return found
