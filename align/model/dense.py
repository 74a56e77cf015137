"""Dense maps: the vectors of a tower's tokens in the joint space, at their places in the picture, sound or cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from align.encoders.last_attention import Attention, with_last_attention
from align.model.tower import Tower
from align.values import Features, Values


def only_one(inputs: Mapping[str, Sequence[Any]]) -> tuple[str, Sequence[Any]]:
    """Return the one modality that ``dense`` was asked for, and its inputs. Raises TypeError for several or none."""
    if len(inputs) != 1:
        raise TypeError(f"dense takes one modality, as in dense(image=[...]); got {', '.join(inputs) or 'none'}")
    return next(iter(inputs.items()))


def read_dense(tower: Tower, values: Values, attention: Attention = "plain") -> Tensor:
    """Return (n, H, W, D) for collated values of a grid, (n, P, D) for clouds, not normalised.

    The tower's head reads each token as it reads a pooled vector. With ``AttentionPool`` a token is pooled alone.

    attention: of the encoder's last block, see ``encoders.last_attention``.

    Raises ValueError for an encoder without tokens, or whose tokens have no places, for a head that chooses its tokens,
    for rows of several windows, and for an attention that the encoder does not have.
    """
    name = type(tower.encoder).__name__
    if getattr(tower.head, "resamples", False):
        raise ValueError(f"the head {type(tower.head).__name__} chooses its tokens, which have no places")
    encoder: Any = with_last_attention(tower.encoder, attention)
    x = tower.ready(values)
    n, rows = (_count(some) for some in (values, x))
    if rows != n:
        raise ValueError(f"{n} rows have {rows} windows; a dense map is of rows of one window each")
    features: Features = encoder(x)
    each = encoder.at_points(x, features.tokens) if hasattr(encoder, "at_points") else None
    if each is not None:
        return _through_head(tower, features._replace(tokens=each, mask=None))  # (n, P, D)
    grid = encoder.grid_of(x) if hasattr(encoder, "grid_of") else getattr(encoder, "grid", None)
    if features.tokens is None or grid is None:
        lacks = "no tokens" if features.tokens is None else "tokens without a grid"
        raise ValueError(f"{name} gives {lacks} for these rows, so there is no dense map; take an encoder with a grid")
    tokens = features.tokens[:, getattr(encoder, "grid_start", 0) :]
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{name} states a grid of {grid[0]} x {grid[1]}, and gives {tokens.shape[1]} tokens")
    each = _through_head(tower, features._replace(tokens=tokens, mask=None))
    return each.unflatten(1, grid)  # (n, H, W, D)


def _through_head(tower: Tower, features: Features) -> Tensor:
    _, each = tower.head(features, tokens=True)
    return each


def _count(values: Values) -> int:
    first = next(iter(values.values())) if isinstance(values, dict) else values
    return first.shape[0]
