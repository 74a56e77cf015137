"""Blocks of coordinates: the part of an embedding that is one space of several (``align.heads.Streams``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Block = tuple[int, int]
"""The coordinates start..stop-1."""


def find_block(spaces: Sequence[str], name: str, dim: int) -> Block:
    """Return the block of a space: ``dim`` coordinates are shared equally by ``spaces``, in order.

    Raises ValueError for a dim that the spaces do not divide, and for a name that is none of them.

    >>> find_block(["shape", "material"], "material", 64)
    (32, 64)
    """
    check_spaces(spaces, dim)
    if name not in spaces:
        raise ValueError(f"no space {name!r}; there are {', '.join(spaces)}")
    size = dim // len(spaces)
    return spaces.index(name) * size, (spaces.index(name) + 1) * size


def check_spaces(spaces: Sequence[str], dim: int) -> None:
    """Raise ValueError for no spaces, a name that comes twice, and a dim that they do not divide."""
    if not spaces or len({*spaces}) < len(spaces):
        raise ValueError(f"spaces are different names, one at least; got {list(spaces)}")
    if dim % len(spaces):
        raise ValueError(f"{len(spaces)} spaces ({', '.join(spaces)}) share dim equally; {dim} is no multiple of it")


def cut(x: Tensor, block: Block) -> Tensor:
    """Return the block of rows (..., D) as (..., d), times the root of D / d.

    The product of two blocks of ``align.heads.Streams`` is their cosine then, as each has the length root of d / D.
    """
    start, stop = block
    return x[..., start:stop] * (x.shape[-1] / (stop - start)) ** 0.5


def place(x: Tensor, block: Block, dim: int) -> Tensor:
    """Return rows (..., dim) whose product with a row y is that of x (..., d) with ``cut(y, block)``."""
    start, stop = block
    out = torch.zeros(*x.shape[:-1], dim, dtype=x.dtype, device=x.device)
    out[..., start:stop] = x * (dim / (stop - start)) ** 0.5
    return out
