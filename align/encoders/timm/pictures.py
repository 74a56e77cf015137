"""The images of timm's evaluation: its settings for a model's weights, and the preprocess that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA = ("input_size", "mean", "std", "crop_pct", "crop_mode", "interpolation")
"""Settings of a picture's processing in timm's configurations."""
RESIZE = {"center": "crop", "squash": "squash", "border": "pad"}  # timm's crop_mode
KNOWN = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming")


def read_settings(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return timm's settings for a model, as plain data: those of a saved configuration, else those of its name."""
    import timm
    from timm.data.config import resolve_data_config

    known: Any = timm.get_pretrained_cfg(name)
    settings = resolve_data_config(pretrained_cfg=dict(config) or known.to_dict())
    return {key: list(v) if isinstance(v := settings[key], tuple) else v for key in DATA}


def describe_images(settings: Mapping[str, Any], size: Any, channels: int) -> dict[str, Any]:
    """Return class_path and init_args of the preprocess that equals ``timm.data.create_transform``, to the bit.

    size: of the images, or None for that of the settings. timm asks its user for RGB, so transparency is dropped.
    """
    mean, std = (_per_channel(settings[name], channels) for name in ("mean", "std"))
    mode, interpolation = settings["crop_mode"], settings["interpolation"]
    arguments: dict[str, Any] = {
        "size": size or one_side(settings["input_size"][1:]),
        "mean": mean,
        "std": std,
        "resize": RESIZE.get(mode, "crop"),
        "interpolation": interpolation if interpolation in KNOWN else "bicubic",
        "backend": "pil",
        "crop": settings["crop_pct"],
        "alpha": "drop",
        "channels": channels,
    }
    if mode == "border":
        arguments["fill"] = [float(round(255 * m)) for m in mean]
    return {"class_path": "align.preprocess.Image", "init_args": arguments}


def one_side(sides: Any) -> int | list[int]:
    """Return one number of two equal sides, else both."""
    height, width = sides
    return height if height == width else [height, width]


def _per_channel(numbers: list[float], channels: int) -> list[float]:
    """Return a number a channel: the mean of three for one, and three in turn for more, as timm repeats weights."""
    if len(numbers) == channels:
        return list(numbers)
    if channels == 1:
        return [sum(numbers) / len(numbers)]
    return [numbers[c % len(numbers)] for c in range(channels)]
