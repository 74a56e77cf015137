"""Sizes of ImageBind's towers: those of imagebind_huge, and those of a file, read from the shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt
from typing import Any, NamedTuple

from align.encoders.imagebind.names import NAMES, Names, count_blocks

Shapes = Mapping[str, tuple[int, ...]]


class Sizes(NamedTuple):
    """Arguments of ``ImageBind`` that a file of weights fixes, under their names there."""

    width: int
    trunk_width: int
    depth: int
    heads: int
    row: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    vocabulary: int | None = None
    scale: float = 1.0


HUGE = {
    "image": Sizes(1024, 1280, 32, 16, (3, 2, 224, 224), (2, 14, 14), (2, 14, 14)),
    "text": Sizes(1024, 1024, 24, 16, (77,), vocabulary=49408, scale=1 / 0.07),
    "audio": Sizes(1024, 768, 12, 12, (1, 128, 204), (16, 16), (10, 10), scale=20.0),
    "depth": Sizes(1024, 384, 12, 8, (1, 224, 224), (16, 16), (16, 16), scale=5.0),
    "thermal": Sizes(1024, 768, 12, 12, (1, 224, 224), (16, 16), (16, 16), scale=10.0),
    "imu": Sizes(1024, 512, 6, 8, (6, 2000), (8,), (8,), scale=5.0),
}
"""Modality -> the sizes of imagebind_huge. The scale of text was learned from 1 / .07 on, so files hold another one."""


def read_sizes(modality: str, shapes: Shapes) -> Sizes:
    """Return the sizes of the tower in a file. shapes: published name -> shape.

    Heads, the row of sound and its stride leave no trace in the shapes: they are imagebind_huge's. So is a size whose
    tensor is missing or has another number of dimensions, as ``put_weights`` names that tensor afterwards. The scale is
    imagebind_huge's too.
    """
    huge, names = HUGE[modality], NAMES[modality]
    width, inner = _shape(names.project, shapes, (huge.width, huge.trunk_width))
    sizes = huge._replace(width=width, trunk_width=inner, depth=count_blocks(names, shapes))
    return sizes._replace(**READ[modality](huge, names, shapes))


def _shape(name: str, shapes: Shapes, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    found = shapes.get(name, ())
    return found if len(found) == len(otherwise) else otherwise


def _read_pictures(huge: Sizes, names: Names, shapes: Shapes) -> dict[str, Any]:
    """Read square pictures, of one patch in time: (channels, [frames,] side, side)."""
    _, channels, *kernel = _shape(names.read, shapes, (0, huge.row[0], *huge.kernel))
    patches = huge.row[-1] // huge.kernel[-1]
    _, places, _ = _shape(names.position, shapes, (0, 1 + patches**2, 0))
    side = isqrt(max(places - 1, 1)) * kernel[-1]
    return {"row": (channels, *kernel[:-2], side, side), "kernel": tuple(kernel), "stride": tuple(kernel)}


def _read_sounds(huge: Sizes, names: Names, shapes: Shapes) -> dict[str, Any]:
    return {"kernel": tuple(_shape(names.read, shapes, (0, 0, *huge.kernel))[2:])}


def _read_series(huge: Sizes, names: Names, shapes: Shapes) -> dict[str, Any]:
    channels, steps = huge.row
    kernel = max(_shape(names.read, shapes, (0, channels * huge.kernel[0]))[1] // channels, 1)
    _, places, _ = _shape(names.position, shapes, (0, 1 + steps // huge.kernel[0], 0))
    return {"row": (channels, (places - 1) * kernel), "kernel": (kernel,), "stride": (kernel,)}


def _read_words(huge: Sizes, names: Names, shapes: Shapes) -> dict[str, Any]:
    vocabulary, _ = _shape(names.read, shapes, (huge.vocabulary or 0, 0))
    _, context, _ = _shape(names.position, shapes, (0, *huge.row, 0))
    return {"row": (context,), "vocabulary": vocabulary}


READ: dict[str, Callable[[Sizes, Names, Shapes], dict[str, Any]]] = {
    "image": _read_pictures,
    "text": _read_words,
    "audio": _read_sounds,
    "depth": _read_pictures,
    "thermal": _read_pictures,
    "imu": _read_series,
}
