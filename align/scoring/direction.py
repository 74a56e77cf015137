"""Prompt directions: the change that two prompts name, added to a picture, a sound or a cloud."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.numerics import at_least_float32


def add_direction(
    reference: Tensor, before: Tensor, after: Tensor, *, scale: float = 1.0, balance: float = 0.5
) -> Tensor:
    """Return queries (n, D), unit vectors, that stand where the reference would stand after the change.

    It is the prompt directional vector of PDV (Tursun et al. 2025, arXiv 2502.07215), without training. The direction
    is ``after - before``. Added to the reference it is their composed image embedding, added to ``before`` their
    composed text embedding, and the query is their fusion of both:

        (1 - balance) · (reference + scale · direction) + balance · (before + scale · direction)

    All rows are brought to length 1 first. Every scale of the direction is allowed: 0 is no change, a negative one asks
    for the opposite.

    reference: (n, D), of any modality. before, after: (n, D) or (D,), of the two prompts ("a metal cone", "a wooden
    cone"). balance: from 0, the reference alone, to 1, the prompts alone.

    Raises ValueError for a balance outside of [0, 1], a scale that is no finite number, and other shapes.
    """
    on_reference, on_after, on_before = weigh_direction(scale, balance)
    if reference.ndim != 2:
        raise ValueError(f"a direction is added to rows (n, D); got {tuple(reference.shape)}")
    for name, x in (("before", before), ("after", after)):
        if x.shape not in (reference.shape, reference.shape[1:]):
            raise ValueError(
                f"{name} is (D,) or one row for each of the reference's {tuple(reference.shape)}; got {tuple(x.shape)}"
            )
    base, first, last = (F.normalize(x, dim=-1) for x in at_least_float32([reference, before, after]))
    return F.normalize(on_reference * base + on_after * last + on_before * first, dim=-1)


def weigh_direction(scale: float, balance: float) -> tuple[float, float, float]:
    """Return the weights of the reference, of the prompt after and of the prompt before in ``add_direction``.

    A sum of cosines with these weights orders candidates as the query does. Raises ValueError as it does.
    """
    if not math.isfinite(scale):
        raise ValueError(f"the scale of a direction is a finite number; got {scale}")
    if not 0 <= balance <= 1:
        raise ValueError(f"balance is 0, the reference alone, to 1, the prompts alone; got {balance}")
    return 1 - balance, scale, balance - scale
