"""TorchaudioWaves: wav2vec 2.0, HuBERT and WavLM of torchaudio, which read waves of 16 kHz."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders import torchaudio_model
from align.encoders.base import Encoder
from align.encoders.hf.audio.base import first, mean_of_real
from align.encoders.weights import checksum, put_weights, read_weights
from align.values import Features, Origin


@final
class TorchaudioWaves(Encoder):
    """A bundle of torchaudio: waves (n, T) at 16 kHz -> frames of 20 ms as tokens, and their mean over the sound.

    wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022). Values are ``{"values",
    "lengths"}`` of Audio's preset wave, or a tensor that is all sound.

    Traps: the library normalises waves and the first layer over a row with its padding, and large models' waves over
    the whole batch. Here every sound has its own statistics, so its features are those that the library gives it alone.
    A sound of less than 25 ms has one frame, which sees silence too.

    Args:
        name: of a bundle of torchaudio.pipelines: "WAV2VEC2_BASE", "HUBERT_LARGE", "WAVLM_BASE_PLUS", ...
        pretrained: True for the bundle's weights, or the path of a file in their layout. None for random ones. It is
            None again once the weights are in.
        layer: how many layers of the transformer are used, and the last of them gives the tokens. None: all, and the
            final normalisation where the model has one.
        config: arguments of torchaudio's factory, None for the bundle's.

    Raises ValueError for a bundle or a layer that does not exist and for weights that do not fit, FileNotFoundError for
    weights that cannot be fetched.
    """

    def __init__(
        self,
        name: str = "WAV2VEC2_BASE",
        pretrained: bool | str | None = None,
        layer: int | None = None,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        bundle = torchaudio_model.find_bundle(name)
        model = torchaudio_model.create(bundle, config)
        model.aux = None
        if pretrained:
            path = Path(pretrained) if isinstance(pretrained, str) else torchaudio_model.fetch(bundle)
            tensors = torchaudio_model.rename(read_weights(path))
            put_weights(model, tensors, str(path), skip=("aux.weight", "aux.bias", "mask_embedding"))
            source = str(path) if isinstance(pretrained, str) else torchaudio_model.URL + bundle._path
            self.origin = Origin(source, checksum(path), "MIT" if pretrained is True else "unstated")
        transformer: Any = model.encoder.transformer
        if layer is not None:
            if not 1 <= layer <= len(transformer.layers):
                raise ValueError(f"layer={layer}: {name} has the layers 1 to {len(transformer.layers)}")
            transformer.layers = transformer.layers[:layer]
            if not transformer.layer_norm_first:
                transformer.layer_norm = nn.Identity()
        self.model = model
        self.name, self.pretrained, self.layer, self.config = name, None, layer, config
        self.width: int = transformer.pos_conv_embed.embed_dim
        self.sample_rate, self.front_end = int(bundle.sample_rate), "wave"
        self._normalize = bool(bundle._normalize_waveform)

    def wants(self) -> dict[str, Any]:
        """Return the preset wave at the bundle's rate."""
        return {"class_path": "align.preprocess.Audio", "init_args": {"preset": "wave"}}

    def encode(self, values: Tensor | dict[str, Tensor]) -> Features:
        if isinstance(values, dict):
            waves, lengths = values["values"], values["lengths"]
        else:
            waves, lengths = values, torch.full((values.shape[0],), values.shape[1], device=values.device)
        if self._normalize:
            waves = torchaudio_model.normalize(waves, lengths)
        frames, counts = torchaudio_model.read_frames(self.model.feature_extractor, waves, lengths)
        real = first(counts, frames.shape[1])
        tokens = torchaudio_model.read_tokens(self.model.encoder, frames, real)
        return Features(mean_of_real(tokens, real), tokens, real)
