"""Inputs of the losses: checks, and defaults for those that are not given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from align.losses.kernels.numerics import one_dtype
from align.losses.kernels.products import wide_dtype

Scale = float | Tensor
"""The multiplier itself, already exponentiated: a float or a tensor of one element."""


def check_embeddings(embeddings: Sequence[Tensor]) -> None:
    """Raise ValueError unless all are (n_m, D) floating tensors with one D."""
    shapes = ", ".join(str(tuple(x.shape)) for x in embeddings)
    if any(x.ndim != 2 or not x.is_floating_point() for x in embeddings) or len({x.shape[1] for x in embeddings}) > 1:
        kinds = ", ".join(str(x.dtype) for x in embeddings)
        raise ValueError(f"a loss takes floating tensors (n, D) of one D; got shapes {shapes} of {kinds}")


def one_number(scale: Scale, like: Tensor, name: str = "scale") -> Tensor:
    """Return scale as a 0-d tensor on like's device, in float32 or like's wider dtype.

    Raises ValueError where it is more than one number.
    """
    number = torch.as_tensor(scale, dtype=wide_dtype(like), device=like.device)
    if number.numel() != 1:
        raise ValueError(f"{name} is one number; got a tensor of shape {tuple(number.shape)}")
    return number.reshape(())


def row_ids(given: Tensor | None, x: Tensor, name: str) -> Tensor:
    """Return sample ids of x's rows, (n,) int64. Without ids, row i belongs to sample i."""
    return torch.arange(len(x), device=x.device) if given is None else per_row(given, x, name)


def per_row(given: Tensor, x: Tensor, name: str) -> Tensor:
    """Return given on x's device. Raises ValueError unless it has one entry a row."""
    if given.shape != x.shape[:1]:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; its rows need ({len(x)},)")
    return given.to(x.device)


def row_weights(given: Tensor | None, x: Tensor, name: str) -> Tensor:
    """Return weights in float32 or x's wider dtype, (n,), all 1 where none are given."""
    dtype = wide_dtype(x)
    return x.new_ones(len(x), dtype=dtype) if given is None else per_row(given, x, name).to(dtype)


def both_or_neither(a: object, b: object, name: str) -> None:
    """Raise ValueError where only one side of a pair has groups."""
    if (a is None) != (b is None):
        raise ValueError(f"{name}_a and {name}_b come together; only {name}_{'b' if a is None else 'a'} was given")


class Sides(TypedDict):
    """Keywords of a function of two sides: the ids, groups and weights of their rows."""

    sample_a: Tensor
    sample_b: Tensor
    group_a: Tensor | None
    group_b: Tensor | None
    weight_a: Tensor | None
    weight_b: Tensor | None


def sides(samples: Sequence[Tensor], groups: Sequence[Tensor] | None, weights: Sequence[Tensor] | None) -> Sides:
    """Return the samples, groups and weights of a loss module's call as keywords of its function of two sides."""
    sample_a, sample_b = samples
    group_a, group_b = groups or (None, None)
    weight_a, weight_b = weights or (None, None)
    return Sides(
        sample_a=sample_a,
        sample_b=sample_b,
        group_a=group_a,
        group_b=group_b,
        weight_a=weight_a,
        weight_b=weight_b,
    )


class Sets(NamedTuple):
    """Rows of M modalities, as a loss over all of them reads them."""

    values: list[Tensor]  # (n_m, D), of one dtype, a half where all of them are
    samples: list[Tensor]  # (n_m,)
    groups: list[Tensor] | None  # (n_m,)
    weights: list[Tensor]  # (n_m,)


def sets(
    embeddings: Sequence[Tensor],
    samples: Sequence[Tensor] | None,
    groups: Sequence[Tensor] | None,
    weights: Sequence[Tensor] | None,
) -> Sets:
    """Return M >= 2 sets of rows, with defaults for samples and weights. Raises ValueError for wrong shapes."""
    check_embeddings(embeddings)
    M = len(embeddings)
    if M < 2:
        raise ValueError(f"this loss contrasts at least two modalities; got {M}")
    for name, given in (("samples", samples), ("groups", groups), ("weights", weights)):
        if given is not None and len(given) != M:
            raise ValueError(f"{name} are given for each of the {M} modalities; got {len(given)}")
    xs = one_dtype(embeddings)
    return Sets(
        xs,
        [row_ids(samples[m] if samples else None, x, f"samples[{m}]") for m, x in enumerate(xs)],
        [per_row(groups[m], x, f"groups[{m}]") for m, x in enumerate(xs)] if groups else None,
        [row_weights(weights[m] if weights else None, x, f"weights[{m}]") for m, x in enumerate(xs)],
    )
