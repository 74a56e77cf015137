"""Weights of one of ImageBind's towers: read from a checkpoint of one or all of them, and put into the tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from align.encoders.imagebind.names import MASK, NAMES, published_name
from align.encoders.imagebind.sizes import HUGE, Sizes, read_sizes
from align.encoders.weight_values import read_scale
from align.encoders.weights import checksum, pick_weights, put_weights
from align.values import Origin

LICENCE = "CC-BY-NC-SA-4.0"
"""Licence of imagebind_huge, as its model card states it."""
MAX_SCALE = 100.0
"""Largest scale: a larger one in a file counts as this."""


def read_tower(path: Path, modality: str) -> tuple[dict[str, Tensor], Sizes]:
    """Return the tensors of a tower under their published names, and its sizes with the scale.

    Raises ValueError for a file that is damaged or has no tensor of the tower, or lacks its scale, FileNotFoundError
    for one that is not there.
    """
    names = NAMES[modality]
    tensors = pick_weights(path, names.holds)
    if not tensors:
        raise ValueError(f"{path} holds no tower {modality!r} of ImageBind; no name begins with {names.prefixes[1]}")
    sizes = read_sizes(modality, {name: tuple(x.shape) for name, x in tensors.items()})
    if HUGE[modality].scale == 1:  # of pictures, which have none
        return tensors, sizes
    if names.scale not in tensors:
        raise ValueError(f"{path} does not fit the model: 1 missing: {names.scale}")
    scale = read_scale(tensors[names.scale], names.scale, path)
    return tensors, sizes._replace(scale=min(scale, MAX_SCALE))


def put_tower(tower: nn.Module, modality: str, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load the tensors of a tower.

    Raises ValueError as ``put_weights``, under the names in the file, and for a mask of text that is no causal one.
    """
    if MASK in tensors:
        mask = tensors[MASK]
        if mask.ndim != 2 or not torch.equal(mask.float(), torch.full(mask.shape, -torch.inf).triu(1)):
            raise ValueError(f"{path} was trained with another constant than ours: {MASK}")
    skip = (NAMES[modality].scale, MASK)
    put_weights(tower, tensors, str(path), skip, lambda name: published_name(modality, name))


def read_origin(path: Path, modality: str, sizes: Sizes) -> Origin:
    """Return the origin of a tower. Only a tower of imagebind_huge's sizes is known to have its licence."""
    published = sizes._replace(scale=HUGE[modality].scale) == HUGE[modality]
    return Origin(str(path), checksum(path), LICENCE if published else "unstated")
