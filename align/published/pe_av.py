"""``pe-av``: audio and text of PE-AV as transformers saves it, such as facebook/pe-av-large."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from torch import Tensor

from align.encoders import HFAudio, HFText
from align.encoders.hf.files import Found, find
from align.encoders.hf.model import make_config, plain_config
from align.encoders.hf.sentence_folder import read_stated
from align.encoders.weight_values import read_number
from align.encoders.weights import put_weights, read_keys, read_weights
from align.heads import Identity
from align.model import JointModel, Tower
from align.preprocess import HFTokens
from align.published.layouts import check_layout
from align.values import TermInfo

CONTEXT = 512  # tokens of a text; the library cuts none
MARK = "embedder.dac_encoder.conv1.weight"
HEAD = "text_audio_head."


def load(source: str) -> JointModel:
    """Return audio and text towers with their projections, and the learned scale and bias.

    source: a hub id or a saved folder, of transformers' pe_audio or of pe_audio_video, of which the video is left out.
    Embeddings are not normalised, because the library takes plain products of them.

    Raises ValueError for weights of another layout or that do not fit, OSError for a source that does not exist or
    cannot be reached.
    """
    found = find(source)
    path = found.weights()
    keys = read_keys(path)
    check_layout("pe-av", keys, str(path))
    inside = "audio_model." if f"audio_model.{HEAD}proj.weight" in keys else ""  # in a model of audio and video
    audio, text = HFAudio(source, pretrained=True), _text(found, path, inside)
    limits = text.context_limit, read_stated(found.folder).length
    tokens = HFTokens(found.tokenizer(), context=min(CONTEXT, *(limit for limit in limits if limit)))
    model = JointModel(
        {"audio": Tower(encoder=audio, head=Identity), "text": Tower(tokens, text, Identity)},
        audio.width,
        normalize=False,
    )
    numbers = read_weights(path, f"{inside}text_audio_logit_")
    if missing := [name for name in ("scale", "bias") if name not in numbers]:
        raise ValueError(f"{path} does not fit the model: 1 missing: {inside}text_audio_logit_{missing[0]}")
    scale, bias = (read_number(numbers[name], f"text_audio_logit_{name}", path) for name in ("scale", "bias"))
    model.terms = [TermInfo(("audio", "text"), "pairwise", scale, bias)]
    return model


def fits(keys: Collection[str]) -> bool:
    """Return True where names of tensors are those of PE-AV's codec and text projection."""
    return any(key.endswith(MARK) for key in keys) and any(key.endswith(f"{HEAD}proj.weight") for key in keys)


def _text(found: Found, path: Path, inside: str) -> HFText:
    """Return the text tower: the first token, then the projection into the space of audio and text."""
    one = make_config(found.config).text_config
    width = one.hidden_size
    dense = {"inputs": width, "outputs": width, "bias": False, "activation": "Identity", "norm": 1e-6}
    name = found.tokenizer()
    text = HFText(name, pooling="cls", normalize=False, prefix="", dense=[dense], config=plain_config(one))
    tensors = read_weights(path, "text_model.") or read_weights(path, f"{inside}text_model.")
    put_weights(text.model, tensors, str(path))
    put_weights(text.layers, _projection(read_weights(path, f"{inside}{HEAD}")), str(path))
    text.origin = found.origin()
    return text


def _projection(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the projection's tensors under the names of HFText's dense layer."""
    renamed = {"layer_norm.": "0.norm.", "proj.": "0.linear."}
    return {
        new + name.removeprefix(old): x
        for name, x in tensors.items()
        for old, new in renamed.items()
        if name.startswith(old)
    }
