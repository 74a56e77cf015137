"""PE-AV's audio encoder with its projection, as transformers' pe_audio has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

from torch import Tensor, nn

from align.encoders.hf import model as hf_model
from align.encoders.hf.audio.base import AudioKind, first
from align.encoders.hf.audio.codec import Codec
from align.encoders.weights import put_weights, read_weights
from align.values import Features

ENCODER, HEAD = "audio_encoder", "audio_head"


class Projected(nn.Module):
    """The encoder and its projection into the space of audio and text, under the names of a checkpoint."""

    def __init__(self, encoder: Any, dim: int | None):
        super().__init__()
        self.audio_encoder = encoder
        width = encoder.config.hidden_size
        self.audio_head = nn.Identity() if dim is None else project(width, dim)
        encoder.embedder = Codec(encoder.embedder)


@final
class PE(AudioKind):
    """PE-AV: waves (n, T) at 48 kHz -> the projected class token, with the projected frames of 40 ms as tokens.

    Padding changes nothing: the library's convolutions see it, ours see silence that is exactly zero in every layer.
    """

    preset, front_end = "pe-av", "wave"
    sample_rate = 48000
    settings: ClassVar[Mapping[str, str]] = {"sampling_rate": "sample_rate", "hop_length": "hop"}
    of = "PeAudioEncoder"
    prefixes = ("audio_model.", "")

    def part(self, config: Mapping[str, Any]) -> dict[str, Any]:
        if config["model_type"] == "pe_audio_encoder":
            return dict(config)
        whole = hf_model.make_config(config)
        pair = whole if whole.model_type == "pe_audio" else whole.audio_config  # of audio and text
        return {**hf_model.plain_config(pair.audio_config), "projection_dim": whole.text_config.hidden_size}

    def sizes(self, config: Any) -> dict[str, int]:
        return {"width": getattr(config, "projection_dim", None) or config.hidden_size}

    def create(self, config: Any) -> Projected:
        return Projected(super().create(config), getattr(config, "projection_dim", None))

    def load(self, config: Any, path: Path) -> Projected:
        tensors = self.read(path)
        encoder = {n.removeprefix(f"{ENCODER}."): x for n, x in tensors.items() if not n.startswith(HEAD)}
        made = hf_model.load(self.of, config, encoder, str(path))
        model = Projected(made, getattr(config, "projection_dim", None))
        head = {n.removeprefix(f"{HEAD}."): x for n, x in tensors.items() if n.startswith(HEAD)}
        put_weights(model.audio_head, head, str(path))
        return model

    def checkpoint(self, model: Any) -> None:
        hf_model.checkpoint_gradients(model.audio_encoder)

    def read(self, path: Path) -> dict[str, Tensor]:
        for prefix in self.prefixes:
            found = {
                f"{part}.{name}": x
                for part in (ENCODER, HEAD)
                for name, x in read_weights(path, f"{prefix}{part}.").items()
            }
            if found:
                return found
        return read_weights(path)  # the encoder alone

    def encode(self, model: Any, values: Tensor, lengths: Tensor) -> Features:
        hop = model.audio_encoder.config.dac_config.hop_length
        real = first(lengths // hop, values.shape[1] // hop)  # (n, L)
        mask = real.repeat_interleave(hop, 1)  # (n, T)
        out = model.audio_encoder(values[:, None], padding_mask=mask)
        return Features(model.audio_head(out.pooler_output), model.audio_head(out.last_hidden_state), real)


def project(width: int, dim: int) -> nn.Module:
    """Return PE-AV's projection: layer normalisation, then a matrix without bias."""
    made = nn.Sequential()
    made.add_module("layer_norm", nn.LayerNorm(width, eps=1e-6))
    made.add_module("proj", nn.Linear(width, dim, bias=False))
    return made
