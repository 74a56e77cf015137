"""The preprocess that an encoder's published weights were trained with: made from its description, and compared."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from align.preprocess.base import Preprocess

IMAGE = ("crop_scale", "crop_ratio", "flip", "max_pixels", "levels")
AUDIO = ("augment", "limits", "dtype", "max_seconds")
POINTS = ("rotate", "jitter", "scale_jitter", "drop", "max_points")
DEPTH = ("unit",)
TEXT = ("context", "reduction", "trim")
VIDEO = ("frames", "fps")
PARTS = ("instruction", "pictures")
FREE = frozenset((*IMAGE, *AUDIO, *POINTS, *DEPTH, *TEXT, *VIDEO, *PARTS))
"""Arguments that training chooses for itself: augmentation, limits, lengths, units, instructions, precision of rows."""


def build_wanted(description: Mapping[str, Any]) -> Preprocess:
    """Return the preprocess of ``{"class_path": ..., "init_args": {...}}``, as ``Encoder.wants`` gives it."""
    module, _, name = str(description["class_path"]).rpartition(".")
    return getattr(import_module(module), name)(**description.get("init_args", {}))


def differences(preprocess: Preprocess, description: Mapping[str, Any]) -> list[str]:
    """Return a phrase for each setting in which a preprocess is not the one that an encoder wants.

    An encoder of videos reads pictures too, so those of an ``Image`` are compared with the frames that it wants.
    """
    wanted: Any = build_wanted(description)
    if type(getattr(wanted, "picture", None)) is type(preprocess):
        wanted = wanted.picture
    if type(preprocess) is not type(wanted):
        return [f"{type(preprocess).__name__} instead of {type(wanted).__name__}"]
    parameters = inspect.signature(type(wanted)).parameters.values()
    names = [p.name for p in parameters if hasattr(wanted, p.name) and p.name not in FREE and not _is_shorthand(p)]
    return [
        f"{name} {getattr(preprocess, name)!r} instead of {getattr(wanted, name)!r}"
        for name in names
        if _comparable(getattr(preprocess, name)) != _comparable(getattr(wanted, name))
    ]


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_shorthand(p: inspect.Parameter) -> bool:
    """Return True for a preset that only fills other arguments: their values are compared."""
    return p.name == "preset" and p.default is None
