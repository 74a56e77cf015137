"""Towers of transformers' CLIP, SigLIP and CLAP: their classes, their names of weights, and how each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from align.encoders.hf import model as hf_model
from align.encoders.text_pooling import pack
from align.encoders.weights import listing
from align.values import Features, Origin


class Part(NamedTuple):
    """One tower. kind: its class in transformers. prefixes: of its weights. section: of the whole model's config."""

    kind: str
    prefixes: tuple[str, ...]
    section: str
    read: Callable[[Any, Any], Features]


class Opened(NamedTuple):
    """One tower with its model. config: transformers' own. found: its files, None where a plain config made it."""

    part: Part
    config: Any
    model: Any
    origin: Origin | None
    found: hf_model.Found | None


def _clip_image(model: Any, pixels: Tensor) -> Features:
    """Read the class token and, through the same norm and projection, the patches."""
    out = model(pixel_values=pixels)
    patches = model.vision_model.post_layernorm(out.last_hidden_state[:, 1:])
    return Features(out.image_embeds, model.visual_projection(patches))


def _siglip_image(model: Any, pixels: Tensor) -> Features:
    """Read the attention pooling and, before it, the patches."""
    out = model(pixel_values=pixels)
    return Features(out.pooler_output, out.last_hidden_state)


def _clip_text(model: Any, values: dict[str, Tensor]) -> Features:
    """Read the end token and, through the same projection, all tokens."""
    out = model(**values)
    return Features(out.text_embeds, model.text_projection(out.last_hidden_state), values["attention_mask"] != 0)


def _siglip_text(model: Any, values: dict[str, Tensor]) -> Features:
    """Read the last place, which may be padding, and, through the same layer, all places."""
    out = model(**values)
    return Features(out.pooler_output, model.head(out.last_hidden_state), values["attention_mask"] != 0)


def _clap_text(model: Any, values: dict[str, Tensor]) -> Features:
    """Read the first token through RoBERTa's pooler and CLAP's projection. Other tokens are not projected."""
    ids, mask = pack(values["input_ids"], values["attention_mask"])
    return Features(model(input_ids=ids, attention_mask=mask.long()).text_embeds)


_clip_picture = ("vision_model.", "visual_projection."), "vision_config", _clip_image
_clip_words = ("text_model.", "text_projection."), "text_config", _clip_text
_siglip_picture = ("vision_model.",), "vision_config", _siglip_image
_siglip_words = ("text_model.",), "text_config", _siglip_text
IMAGE = {
    "clip": Part("CLIPVisionModelWithProjection", *_clip_picture),
    "clip_vision_model": Part("CLIPVisionModelWithProjection", *_clip_picture),
    "siglip": Part("SiglipVisionModel", *_siglip_picture),
    "siglip_vision_model": Part("SiglipVisionModel", *_siglip_picture),
}
"""model_type -> image tower. SigLIP 2 of a fixed resolution is of type siglip."""
TEXT = {
    "clip": Part("CLIPTextModelWithProjection", *_clip_words),
    "clip_text_model": Part("CLIPTextModelWithProjection", *_clip_words),
    "clap": Part("ClapTextModelWithProjection", *_clip_words[:2], _clap_text),
    "clap_text_model": Part("ClapTextModelWithProjection", *_clip_words[:2], _clap_text),
    "siglip": Part("SiglipTextModel", *_siglip_words),
    "siglip_text_model": Part("SiglipTextModel", *_siglip_words),
}
"""model_type -> text tower."""


def choose_part(parts: Mapping[str, Part], config: Mapping[str, Any]) -> tuple[Part, Any]:
    """Return the tower of a plain config, and transformers' config of that tower alone.

    Raises ValueError for a model of another type.
    """
    kind = str(config.get("model_type"))
    if kind not in parts:
        raise ValueError(f"a model of type {kind!r} has no such tower; known: {', '.join(parts)}")
    part, whole = parts[kind], hf_model.make_config(config)
    one = getattr(whole, part.section, whole)
    if one is not whole and hasattr(whole, "projection_dim"):
        one.projection_dim = whole.projection_dim
    return part, one


def open_part(
    parts: Mapping[str, Part], name: str, pretrained: bool | str, config: Mapping[str, Any] | None, checkpointing: bool
) -> Opened:
    """Return a tower of a source or of a plain config. The arguments are those of ``HFImage``.

    Raises ValueError for a model of another type and for weights that do not fit, FileNotFoundError for a source that
    is not there.
    """
    found = None if config is not None else hf_model.find(name)
    part, made = choose_part(parts, (config or {}) if found is None else found.config)
    if getattr(made, "vision_use_head", True) is False:
        raise ValueError(f"{name} was saved without its pooling head; give a model that has one")
    weights = hf_model.find_weights_of(name, pretrained, found)
    model = make_part(part, made, weights)
    if checkpointing:
        hf_model.checkpoint_gradients(model)
    return Opened(part, made, model, None if weights is None else weights.origin(), found)


def make_part(part: Part, config: Any, weights: hf_model.Found | None) -> Any:
    """Return a tower's model, random or with its weights. Raises ValueError for weights that do not fit."""
    if weights is None:
        return hf_model.create(part.kind, config)
    path = weights.weights()
    tensors = hf_model.read_part(path, part.prefixes)
    if not tensors:
        names = listing(sorted(hf_model.read_part(path, [""])))
        raise ValueError(f"{path} has no weights of {part.kind}, which begin with {part.prefixes[0]!r}; it has {names}")
    return hf_model.load(part.kind, config, tensors, str(path))
