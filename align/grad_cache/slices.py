"""Rows of values and of outputs: cut into chunks, and joined again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.values import Values


def leaf(values: Values) -> Tensor:
    """Return one tensor of the values, (n, ...)."""
    return next(iter(values.values())) if isinstance(values, dict) else values


def spans(n: int, chunk: int) -> list[slice]:
    """Return slices of at most ``chunk`` of n rows. No rows are one empty slice."""
    return [slice(start, min(start + chunk, n)) for start in range(0, max(n, 1), chunk)]


def cut(values: Values, span: slice) -> Values:
    """Return these rows of the values."""
    return {name: x[span] for name, x in values.items()} if isinstance(values, dict) else values[span]


def cut_like(x: Tensor, span: slice, like: Tensor) -> Tensor:
    """Return rows of x with as many columns as ``like`` has, without the zeros that ``join`` added."""
    rows = x[span]
    return rows[:, : like.shape[1]] if like.ndim > 1 else rows


def join(parts: Sequence[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """Return each output of the chunks as one tensor. Shorter rows of tokens are filled up with zeros.

    A preprocess may trim the padding of a chunk. The zeros stand where the mask is False.
    """
    return tuple(torch.cat([*_pad(pieces)]) for pieces in zip(*parts, strict=True))


def _pad(pieces: Sequence[Tensor]) -> Iterator[Tensor]:
    longest = max(x.shape[1] if x.ndim > 1 else 0 for x in pieces)
    for x in pieces:
        more = longest - x.shape[1] if x.ndim > 1 else 0
        yield F.pad(x, (0, 0) * (x.ndim - 2) + (0, more)) if more else x
