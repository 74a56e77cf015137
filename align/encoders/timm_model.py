"""timm's models for our encoders: made, loaded from the hub or a file, and read as features."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import Tensor

from align.values import Features


def create(name: str, pretrained: bool | str | None, **options: Any) -> Any:
    """Return a timm model without its classifier.

    pretrained: True for timm's default weights, a tag ("augreg_in21k") for others, or the path of a file with weights
        in timm's layout (.safetensors, or a .pth, of which only tensors are read).

    Raises ValueError for a name, a tag or a layout that does not fit, OSError where weights cannot be fetched.
    """
    import timm

    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        near = difflib.get_close_matches(arch, timm.list_models(), 1)
        raise ValueError(f"timm has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if isinstance(pretrained, str) and Path(pretrained).is_file():
        return _from_file(name, pretrained, options)
    if isinstance(pretrained, str):
        _check_tag(arch, pretrained)
        name, tag = f"{arch}.{pretrained}", pretrained
    if not pretrained:
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    config = timm.get_pretrained_cfg(arch, allow_unregistered=False)
    if not tag and not (config and config.has_weights):
        raise ValueError(f"timm has no weights for {arch!r}; use pretrained=False, or the path of a file")
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **options)
    except (OSError, RuntimeError, ValueError) as error:  # the hub's errors are of all three kinds, and many lines long
        raise OSError(
            f"the weights of {name} cannot be fetched ({type(error).__name__}): go online once, or give `pretrained` "
            "the path of a file"
        ) from error


def _check_tag(arch: str, tag: str) -> None:
    import timm

    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{arch}.*")]
    if tag not in tags:
        raise ValueError(f"pretrained={tag!r} is no file and no tag of {arch}; its tags: {', '.join(tags) or 'none'}")


def _from_file(name: str, path: str, options: dict[str, Any]) -> Any:
    """Return a model with the weights of a file.

    timm takes the file for the whole model and checks every key. So a classifier in it is loaded, then dropped.
    """
    import timm
    from timm.models import load_state_dict

    config = timm.get_pretrained_cfg(name)
    heads = config.classifier if config else None
    head = heads[0] if isinstance(heads, tuple | list) else heads
    try:
        keys = load_state_dict(path, device="cpu", weights_only=True)
        classes = len(keys[f"{head}.weight"]) if f"{head}.weight" in keys else 0
        overlay = {"file": path, "num_classes": classes}
        model: Any = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **options
        )
    except Exception as error:
        first = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} does not hold the weights of {name}: {first}") from error
    if classes:
        model.reset_classifier(0)
    return model


def features(model: Any, x: Tensor) -> Features:
    """Return the features before the classifier, with tokens where they are as wide, less class and register tokens."""
    maps = model.forward_features(x)
    pooled = model.forward_head(maps, pre_logits=True)  # (n, W)
    tokens = None
    if maps.ndim == 3:
        tokens = maps[:, getattr(model, "num_prefix_tokens", 0) :]
    elif maps.ndim == 4:  # (n, H, W, C) where the model says so, else (n, C, H, W)
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        tokens = maps.flatten(1, 2) if last else maps.flatten(2).mT
    if tokens is not None and tokens.shape[-1] != pooled.shape[-1]:
        tokens = None
    return Features(pooled, tokens)


def width(model: Any) -> int:
    """Return the width of the pooled features. Some models widen theirs after the last map."""
    return getattr(model, "head_hidden_size", None) or model.num_features
