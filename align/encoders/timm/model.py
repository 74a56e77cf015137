"""timm's models for our encoders: made, filled with weights in timm's layout, and read as features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from align.encoders.timm.source import Found
from align.encoders.weights import read_weights
from align.values import Features

SOURCES = frozenset(
    {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "cache_dir"}
)
"""Arguments of ``timm.create_model`` that name weights. A config.json or a checkpoint could name any file by them."""


def create(found: Found, **options: Any) -> Any:
    """Return a timm model without its classifier, with the weights of ``found.file`` where there is one.

    options: arguments of the architecture, over those of ``found``. timm adapts position embeddings to another size and
    the first convolution to other channels.

    Raises ValueError for weights that do not fit, and for options that the architecture does not take.
    """
    import timm

    if beside := sorted(SOURCES & set(found.arguments)):
        raise ValueError(f"{beside[0]} is no argument of timm's architectures; weights are named by `pretrained`")
    options = {key: v for key, v in {**found.arguments, **options}.items() if key != "num_classes"}
    if found.file is not None:
        return _create_from_file(found, options)
    try:
        return timm.create_model(found.name, pretrained=False, num_classes=0, **options)
    except TypeError as error:
        raise Unknown(f"timm's {found.name} does not take an argument: {error}") from error


def create_dynamic(found: Found, **options: Any) -> Any:
    """Return a model of a fixed size that takes images of any size: position embeddings or windows are interpolated.

    Raises ValueError for an architecture that cannot.
    """
    for how in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            return create(found, **options, **how)
        except Unknown:
            pass
    raise ValueError(f"timm's {found.name} takes images of one size; leave dynamic out")


class Unknown(ValueError):
    """Arguments that an architecture does not take."""


def _create_from_file(found: Found, options: dict[str, Any]) -> Any:
    """Return a model with the weights of a file.

    timm takes the file for the whole model and checks every key. So a classifier in it is loaded, then dropped.
    """
    import timm

    known: Any = timm.get_pretrained_cfg(found.name)
    config = {**known.to_dict(), **found.config}
    heads = config.get("classifier")
    head = heads[0] if isinstance(heads, tuple | list) else heads
    archive = found.file is not None and found.file.suffix == ".npz"  # weights of JAX, which the model itself reads
    keys = {} if archive else read_weights(found.file)  # pyright: ignore[reportArgumentType]
    classes = len(keys[f"{head}.weight"]) if f"{head}.weight" in keys else 0
    overlay = {"file": str(found.file), "num_classes": classes, "custom_load": archive}
    fixed = {key: found.config[key] for key in ("input_size", "first_conv") if key in found.config}
    try:
        model: Any = timm.create_model(
            found.name, pretrained=True, pretrained_cfg_overlay={**fixed, **overlay}, num_classes=classes, **options
        )
    except TypeError as error:
        raise Unknown(f"timm's {found.name} does not take an argument: {error}") from error
    except Exception as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{found.file} does not hold the weights of {found.name}: {first}") from error
    if classes:
        model.reset_classifier(0)
    return model


def features(model: Any, x: Tensor) -> Features:
    """Return the features before the classifier, with tokens where they are as wide, less class and register tokens."""
    maps = model.forward_features(x)
    pooled = model.forward_head(maps, pre_logits=True)  # (n, W)
    tokens = None
    if not isinstance(maps, Tensor):  # CrossViT and a few others give several
        return Features(pooled)
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


def fixed_size(model: Any) -> tuple[int, int] | None:
    """Return height and width of the images that a model asks for, None where it takes any."""
    return getattr(getattr(model, "patch_embed", None), "img_size", None)


def grid(model: Any, height: int, width: int) -> tuple[int, int] | None:
    """Return the grid of the tokens that ``features`` gives for images of a size, None for a model that states none.

    A vision transformer has one cell a patch, a hierarchical model one a position of its last map. The latter is None
    for sides that are no multiples of its stride, as some models round up and others down.
    """
    patches, stated = getattr(model, "patch_embed", None), getattr(model, "feature_info", None)
    stride = stated[-1]["reduction"] if isinstance(stated, list) and stated else getattr(patches, "patch_size", None)
    if stride is None:
        return None
    rows, columns = (stride, stride) if isinstance(stride, int) else stride
    if getattr(patches, "dynamic_img_pad", False):
        return -(-height // rows), -(-width // columns)
    return None if height % rows or width % columns else (height // rows, width // columns)
