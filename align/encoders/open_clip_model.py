"""open_clip's two-tower models for our encoders, made with random weights, or loaded from the hub or a file."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any


def create(name: str, pretrained: str | None) -> Any:
    """Return an open_clip model whose text part is ``model.text`` and whose image part is ``model.visual``.

    pretrained: a tag of open_clip ("laion2b_s34b_b79k"), or the path of a file in open_clip's layout (.safetensors, or
        .pt/.bin, of which only tensors are read).

    Raises ValueError for a name, a tag or a layout that does not fit, OSError where weights cannot be fetched.
    """
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 1)
        raise ValueError(f"open_clip has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained and not Path(pretrained).is_file() and pretrained not in tags:
        known = ", ".join(tags) or "none"
        raise ValueError(f"pretrained={pretrained!r} is no file and no tag of {name}; its tags: {known}")
    if pretrained and pretrained in tags:
        _check_gelu(name, pretrained, config.get("quick_gelu", False))
    path = _fetch(name, pretrained) if pretrained else None
    config.pop("custom_text", None)
    for part, library in (("vision_cfg", "timm_model"), ("text_cfg", "hf_model")):
        if f"{library}_name" in config[part]:
            config[part][f"{library}_pretrained"] = False
    kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    model = kind(**config)
    if path:
        _load(model, name, path)
    return model


def _check_gelu(name: str, tag: str, quick: bool) -> None:
    """Raise ValueError where the weights were trained with another GELU than their architecture has.

    open_clip only warns. The architecture is not changed here, because a checkpoint would not know.
    """
    import open_clip

    if open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False) != quick:
        other = name.removesuffix("-quickgelu") if quick else f"{name}-quickgelu"
        raise ValueError(f"the weights {tag!r} were trained with another GELU than {name} has; use {other}")


def _fetch(name: str, pretrained: str) -> str:
    """Return the path of a file with the weights, downloaded where ``pretrained`` is a tag."""
    import open_clip

    if Path(pretrained).is_file():
        return pretrained
    try:
        return open_clip.download_pretrained(open_clip.get_pretrained_cfg(name, pretrained))
    except Exception as error:  # the hub's errors are of many kinds, and many lines long
        raise OSError(
            f"the weights {pretrained!r} of {name} cannot be fetched ({type(error).__name__}): go online once, or "
            "give `pretrained` the path of a file"
        ) from error


def _load(model: Any, name: str, path: str) -> None:
    import open_clip

    try:
        open_clip.load_checkpoint(model, path, strict=True, weights_only=True)
    except Exception as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not hold the weights of {name}: {first}") from error


def width(name: str) -> int:
    """Return the dimension of the joint space that the model was published with."""
    import open_clip

    return (open_clip.get_model_config(name) or {})["embed_dim"]
