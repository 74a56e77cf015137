"""torchaudio's wav2vec 2.0, HuBERT and WavLM: made, loaded, and read with a mask, so that padding changes nothing."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.files import cache_dir
from align.files.fetch import download

URL = "https://download.pytorch.org/torchaudio/models/"
RENAMED = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
"""Names of weight normalisation as torch has written them until 2.0 -> as it names them now."""


def find_bundle(name: str) -> Any:
    """Return a bundle of torchaudio.pipelines by its name. Raises ValueError with the nearest name."""
    from torchaudio import pipelines

    names = [n for n in pipelines.__all__ if type(getattr(pipelines, n)).__name__ == "Wav2Vec2Bundle"]
    if name not in names:
        near = get_close_matches(name.upper(), names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the bundles are {', '.join(names)}"
        raise ValueError(f"torchaudio has no bundle {name!r}; {hint}")
    return getattr(pipelines, name)


def create(bundle: Any, config: dict[str, Any] | None) -> Any:
    """Return the model of a bundle with random weights. config: arguments of torchaudio's factory instead of its own.

    Raises ValueError for arguments that the factory does not take.
    """
    from torchaudio.models import wav2vec2_model, wavlm_model

    factory = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}[bundle._model_type]
    try:
        return factory(**(bundle._params if config is None else config))
    except TypeError as error:
        raise ValueError(f"torchaudio's {factory.__name__} takes no such config: {error}") from error


def fetch(bundle: Any) -> Path:
    """Return the path of a bundle's weights in the cache, downloaded at its first use.

    Raises FileNotFoundError in one line where it cannot be.
    """
    path = cache_dir() / "torchaudio" / bundle._path
    try:
        return download(URL + bundle._path, path)
    except OSError as error:
        reason = " ".join(str(error).split())[:160]
        raise FileNotFoundError(
            f"{URL}{bundle._path} cannot be fetched ({reason}): go online once, or give `pretrained` a file"
        ) from error


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names that torch uses now."""
    out = {}
    for name, x in tensors.items():
        old = next((end for end in RENAMED if name.endswith(end)), "")
        out[name.removesuffix(old) + RENAMED.get(old, "")] = x
    return out


def normalize(waves: Tensor, lengths: Tensor) -> Tensor:
    """Return waves (n, T) with mean 0 and variance 1 over each sound, and zeros after it."""
    real = torch.arange(waves.shape[1], device=waves.device) < lengths[:, None]
    return _standardize(waves, real, 1e-5) * real


def read_frames(extractor: Any, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, L, C) frames of waves (n, T) and how many of each row are real, at least one.

    A group normalisation over time takes its statistics from the real frames.
    """
    x = waves[:, None]
    for layer in extractor.conv_layers:
        x = layer.conv(x)
        lengths = ((lengths - layer.kernel_size).div(layer.stride, rounding_mode="floor") + 1).clamp(1, x.shape[-1])
        if isinstance(layer.layer_norm, nn.GroupNorm):
            real = (torch.arange(x.shape[-1], device=x.device) < lengths[:, None])[:, None]
            norm = layer.layer_norm
            x = _standardize(x, real, norm.eps) * norm.weight[:, None] + norm.bias[:, None]
        elif layer.layer_norm is not None:
            x = layer.layer_norm(x)
        x = F.gelu(x)
    return x.mT, lengths


def read_tokens(encoder: Any, frames: Tensor, real: Tensor) -> Tensor:
    """Return (n, L, W), the last layer's tokens. real: (n, L) bool."""
    transformer = encoder.transformer
    x = encoder.feature_projection(frames) * real[..., None]
    x = transformer._preprocess(x)
    L = real.shape[1]
    precision = next(encoder.parameters()).dtype  # not that of x, which is less under autocast
    hidden, bias = (~real).to(precision) * -1e4, None  # (n, L), added to the attention's logits
    wavlm = hasattr(transformer.layers[0].attention, "rel_attn_embed")
    masks = {"key_padding_mask": hidden} if wavlm else {"attention_mask": hidden[:, None, None].expand(-1, 1, L, L)}
    for layer in transformer.layers:
        x, bias = layer(x, position_bias=bias, **masks)
    return x if transformer.layer_norm_first else transformer.layer_norm(x)


def _standardize(x: Tensor, real: Tensor, eps: float) -> Tensor:
    """Return (x - mean) / sqrt(variance + eps), over the real values of the last dimension."""
    count = real.sum(-1, keepdim=True).clamp(min=1)
    mean = (x * real).sum(-1, keepdim=True) / count
    variance = ((x - mean).square() * real).sum(-1, keepdim=True) / count
    return (x - mean) / (variance + eps).sqrt()
