"""CLAP's HTSAT with its projection (Wu et al. 2023; Chen et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor

from align.encoders.hf import model as hf_model
from align.encoders.hf.audio.base import AudioKind
from align.encoders.hf.audio.fusion import FusedPatches
from align.values import Features

PADS = {"repeatpad": "repeat-pad", "repeat": "repeat", "pad": "zero"}


@final
class Clap(AudioKind):
    """CLAP: (n, 1, 64, 1001) decibels, (n, 4, 64, 1001) with fusion -> its projection. It has no tokens.

    Every row goes through the fusion, as a sound alone does in transformers.
    """

    preset = front_end = "clap"
    sample_rate = 48000
    settings: ClassVar[Mapping[str, str]] = {
        "feature_size": "n_mels",
        "sampling_rate": "sample_rate",
        "hop_length": "hop",
        "max_length_s": "seconds",
        "fft_window_size": "n_fft",
        "frequency_min": "f_min",
        "frequency_max": "f_max",
    }
    of = "ClapAudioModelWithProjection"
    prefixes = ("audio_model.", "audio_projection.")

    def part(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if "audio_config" not in config:
            return dict(config)
        shared = {k: config[k] for k in ("projection_dim", "projection_hidden_act") if k in config}
        return {**(config["audio_config"] or {}), **shared, "model_type": "clap_audio_model"}

    def sizes(self, config: Any) -> dict[str, int]:
        return {"width": config.projection_dim, "n_mels": config.num_mel_bins}

    def encode(self, model: Any, values: Tensor, lengths: Tensor) -> Features:
        return Features(model.audio_projection(model.audio_model(input_features=values.mT).pooler_output))

    def create(self, config: Any) -> Any:
        return fuse_all(super().create(config))

    def load(self, config: Any, path: Path) -> Any:
        return fuse_all(super().load(config, path))

    def read(self, path: Path) -> dict[str, Tensor]:
        return hf_model.read_part(path, self.prefixes)

    def preset_for(self, config: Any) -> tuple[str, str]:
        return ("clap-fusion", "clap-fusion") if config.enable_fusion else ("clap", "clap")

    def arguments(self, processor: Mapping[str, Any]) -> dict[str, Any]:
        found = super().arguments(processor)
        if (pad := processor.get("padding", "repeatpad")) != "repeatpad":
            found["pad"] = PADS[pad]
        return found


def fuse_all(model: Any) -> Any:
    """Return a model whose fusion, where it has one, is of all rows."""
    encoder = model.audio_model.audio_encoder
    if encoder.enable_fusion:
        encoder.patch_embed = FusedPatches(encoder.patch_embed)
        encoder.enable_fusion = False  # else the library would look for the rows that are marked
    return model
