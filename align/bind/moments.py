"""Moments of paired rows: means and sums of products, from which every method here is solved."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 4096  # rows that are float64 at a time


class Moments(NamedTuple):
    """Sums of n pairs of rows x (n, W) and y (n, D), in float64.

    mean_x: (W,). mean_y: (D,). xx: (W, W), xy: (W, D) and yy: (D, D), sums of products of rows less their means.
    """

    n: int
    mean_x: Tensor
    mean_y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor


def sum_moments(x: Tensor, y: Tensor) -> Moments:
    """Return the moments of paired rows x (n, W) and y (n, D).

    The rows are read twice, so that a mean far from zero costs no digits. Raises ValueError for another shape, for
    no rows, and for a number that is not finite.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"pairs are rows (n, W) and (n, D); got {tuple(x.shape)} and {tuple(y.shape)}")
    n = len(x)
    if not n:
        raise ValueError("there is no pair to fit on")
    mean_x, mean_y = (sum(part.double().sum(0) for part in rows.split(PIECE)) / n for rows in (x, y))
    xx, xy, yy = (x.new_zeros(a, b, dtype=torch.float64) for a, b in _shapes(x.shape[1], y.shape[1]))
    for part_x, part_y in zip(x.split(PIECE), y.split(PIECE), strict=True):
        a, b = part_x.double() - mean_x, part_y.double() - mean_y
        xx.addmm_(a.T, a)
        xy.addmm_(a.T, b)
        yy.addmm_(b.T, b)
    if not (torch.isfinite(xx.diagonal()).all() and torch.isfinite(yy.diagonal()).all()):
        raise ValueError(f"a row of the {n} pairs has NaN or an infinite number; write the cache again without it")
    return Moments(n, mean_x, mean_y, xx, xy, yy)  # pyright: ignore[reportArgumentType]  a sum of tensors is a tensor


def _shapes(w: int, d: int) -> tuple[tuple[int, int], ...]:
    return (w, w), (w, d), (d, d)


def flip(moments: Moments) -> Moments:
    """Return the moments with x and y exchanged."""
    n, mean_x, mean_y, xx, xy, yy = moments
    return Moments(n, mean_y, mean_x, yy, xy.T, xx)
