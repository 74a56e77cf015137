"""Published tensors of point towers: their names, and the sizes that their shapes state."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

HEAD_WIDTH = 64
"""Numbers of a head of attention in OpenShape's and ULIP-2's towers, which no tensor states."""


def translate(name: str, patterns: Mapping[str, str]) -> str:
    """Return the published name of a tensor of ours. patterns: the part before the last dot, ours -> theirs.

    >>> translate("blocks.3.up.weight", {r"blocks\\.(\\d+)\\.up": r"layers.\\1.fc1"})
    'layers.3.fc1.weight'
    """
    for ours, theirs in patterns.items():
        if found := re.fullmatch(rf"{ours}(\.\w+)?", name):
            return found.expand(theirs) + (found[found.re.groups] or "")
    return name


def count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many blocks have tensors, from names like ``PREFIX3.norm1.weight``."""
    return len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)})


def count_heads(width: int, where: str) -> int:
    """Return how many heads blocks of a width have. Raises ValueError for a width that is no multiple of a head's."""
    heads, rest = divmod(width, HEAD_WIDTH)
    if rest or not heads:
        raise ValueError(f"{where} has blocks {width} wide, which is no number of heads of {HEAD_WIDTH}")
    return heads


def flatten_singles(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with convolutions over single points (a, b, 1, …) as matrices (a, b), and (1, 1, W) as (W)."""
    flat = {}
    for name, x in tensors.items():
        single = x.ndim > 2 and all(size == 1 for size in x.shape[2:])
        if x.ndim == 3 and x.shape[:2] == (1, 1) and name.rpartition(".")[2].startswith("cls_"):
            flat[name] = x.flatten()
        else:
            flat[name] = x.flatten(1) if single else x
    return flat
