"""The preprocessing of open_clip's models: its descriptions of pictures and tokenizers in the words of our presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from align.files.hub import PREFIX

MEANS = {"clip": (0.48145466, 0.4578275, 0.40821073), "imagenet": (0.485, 0.456, 0.406), "half": (0.5, 0.5, 0.5)}
STDS = {"clip": (0.26862954, 0.26130258, 0.27577711), "imagenet": (0.229, 0.224, 0.225), "half": (0.5, 0.5, 0.5)}
RESIZES = {"shortest": "crop", "squash": "squash", "longest": "pad"}
SCALES = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}  # random is for training alone
CONTEXT = 77  # of open_clip's tokenizers where a configuration states none


def describe_image(size: int | Sequence[int], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return class_path and init_args of a preprocess that equals open_clip's ``image_transform``.

    stated: "preprocess_cfg" of a configuration. Raises ValueError for a value that open_clip does not have.
    """
    mean, std = _three(stated["mean"]), _three(stated["std"])
    named = next((name for name in MEANS if (mean, std) == (MEANS[name], STDS[name])), None)
    for key, known in {"resize_mode": RESIZES, "interpolation": SCALES}.items():
        if stated[key] not in known:
            raise ValueError(f"{key} {stated[key]!r} is none of open_clip's: {', '.join(known)}")
    resize, scale = RESIZES[stated["resize_mode"]], SCALES[stated["interpolation"]]
    arguments: dict[str, Any] = {"size": size if isinstance(size, int) else list(size), "preset": "openai-clip"}
    if (named, resize, scale) == ("half", "squash", "bilinear"):
        arguments["preset"] = "pe-core"
    elif (named, resize, scale) != ("clip", "crop", "bicubic"):
        arguments |= {"mean": named or list(mean), "resize": resize, "interpolation": scale}
        if named is None:
            arguments["std"] = list(std)
    if resize == "pad":
        arguments["fill"] = stated["fill_color"]
    return {"class_path": "align.preprocess.Image", "init_args": arguments}


def describe_text(name: str, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return class_path and init_args of a tokenizer that equals open_clip's of a model.

    stated: "text_cfg" of a configuration. Raises ValueError for a tokenizer that we do not have.
    """
    options = dict(stated.get("tokenizer_kwargs") or {})
    context = stated.get("context_length", CONTEXT)
    tokenizer = stated.get("hf_tokenizer_name")
    if not tokenizer:
        reduction = options.pop("reduction_mask", "") or "cut"
        arguments = {"context": context, "clean": options.pop("clean", "lower"), "reduction": reduction}
        if options or reduction == "syntax":
            raise ValueError(f"{name} wants a tokenizer with {options or 'syntax masking'}, which align has not")
        return {"class_path": "align.preprocess.Tokens", "init_args": arguments}
    if stated.get("tokenizer_mode"):
        raise ValueError(f"{name} wants its tokenizer in the mode {stated['tokenizer_mode']!r}, which align has not")
    arguments = {
        "tokenizer": tokenizer if Path(tokenizer).is_dir() or tokenizer.startswith(PREFIX) else PREFIX + tokenizer,
        "context": context,
        "clean": options.pop("clean", "whitespace"),
        "strip_sep": True if options.pop("strip_sep_token", False) else None,
        "trim": False,  # the towers read their padding
    }
    if options:
        raise ValueError(f"{name} wants a tokenizer with {options}, which align has not")
    return {"class_path": "align.preprocess.HFTokens", "init_args": arguments}


def _three(value: Any) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(float(x) for x in value)
