"""open_clip's configuration of a model: its towers, its preprocessing of pictures, and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from align.convert.sentences.parts import make_tokenizer
from align.encoders.open_clip.source import find_model
from align.model import JointModel
from align.model.inside import unwrap
from align.preprocess import HFTokens, Image, Tokens
from align.preprocess.image_presets import MEANS, STDS, n_numbers

RESIZES = {"crop": "shortest", "squash": "squash", "pad": "longest"}
INTERPOLATIONS = ("bicubic", "bilinear")


def find_config(model: JointModel, image: str, text: str) -> dict[str, Any]:
    """Return the content of open_clip_config.json. Raises ValueError for preprocessing that open_clip has not."""
    towers = [unwrap(model.towers[m]) for m in (image, text)]
    sources = [find_model(tower.encoder.name, None, tower.encoder.config).config for tower in towers]
    quick = [bool(config.get("quick_gelu", False)) for config in sources]
    if quick[0] != quick[1]:
        raise ValueError(f"{image} and {text} are of models with different activations (quick_gelu): open_clip has one")
    vision = {**sources[0]["vision_cfg"], "timm_model_pretrained": False}
    if "timm_model_name" not in vision:
        del vision["timm_model_pretrained"]
    words = {**sources[1]["text_cfg"], "context_length": towers[1].encoder.context}
    words.pop("hf_config", None)
    if words.get("hf_model_name"):
        words["hf_model_pretrained"] = False
    for part in (vision, words):
        part.pop("output_tokens", None)  # of CoCa, whose captioner no tower has
    words |= _describe_tokens(text, towers[1].preprocess)
    config = {"embed_dim": model.dim, "vision_cfg": vision, "text_cfg": words, "quick_gelu": quick[0]}
    config["custom_text"] = True  # the text tower has names of its own, which any kind of it fits
    return {"model_cfg": config, "preprocess_cfg": _describe_picture(image, towers[0].preprocess)}


def find_notes(model: JointModel, image: str) -> list[str]:
    """Return lines about pictures that open_clip prepares a little differently."""
    picture = unwrap(model.towers[image]).preprocess
    notes = []
    if picture.backend != "pil":
        notes.append(f"{image}: open_clip scales pictures through PIL, this model through {picture.backend}")
    if picture.alpha != "keep":
        notes.append(f"{image}: open_clip shows transparent parts of a picture otherwise than this model")
    return notes


def save_tokenizer(model: JointModel, text: str, folder: Path) -> None:
    """Write the tokenizer of a tower that has one of the hub's. open_clip brings CLIP's own."""
    tokens = unwrap(model.towers[text]).preprocess
    if isinstance(tokens, HFTokens):
        make_tokenizer(tokens, tokens.padding, tokens.strip_sep).save_pretrained(folder)


def _describe_picture(name: str, picture: Any) -> dict[str, Any]:
    """Return "preprocess_cfg" of an Image."""
    fits = type(picture) is Image and (picture.crop, picture.channels, picture.bits) == (1.0, 3, 8)
    if not fits or picture.interpolation not in INTERPOLATIONS:
        raise ValueError(f"{name}: open_clip reads whole pictures of 3 channels, bicubic or bilinear, not as {picture}")
    fill = picture.fill
    if not isinstance(fill, float):
        raise ValueError(f"{name}: open_clip's border has one grey, not the colour {fill}")
    return {
        "size": picture.size,
        "mean": list(n_numbers("mean", picture.mean, MEANS, 3)),
        "std": list(n_numbers("std", picture.std or picture.mean, STDS, 3)),
        "interpolation": picture.interpolation,
        "resize_mode": RESIZES[picture.resize],
        "fill_color": int(fill),
    }


def _describe_tokens(name: str, tokens: Any) -> dict[str, Any]:
    """Return the keys of "text_cfg" that make a tokenizer as ours is."""
    if type(tokens) is Tokens:
        options = {} if tokens.clean == "lower" else {"clean": tokens.clean}
        return {"tokenizer_kwargs": options} if options else {}
    if (
        type(tokens) is not HFTokens
        or tokens.prefix
        or (tokens.lower and tokens.clean not in ("lower", "canonicalize"))
    ):
        raise ValueError(f"{name}: open_clip has no tokenizer like {type(tokens).__name__} with these settings")
    if tokens.clean == "none":
        raise ValueError(f"{name}: open_clip's tokenizers clean their texts, and this one has clean='none'")
    options = {"clean": tokens.clean} | ({"strip_sep_token": True} if tokens.strip_sep else {})
    return {"hf_tokenizer_name": ".", "tokenizer_kwargs": options}
