"""What every loss does with rows: exact dtype, who belongs with whom, and means over the anchors that count."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

Scale = float | Tensor
"""The multiplier itself, already exponentiated: a float or a tensor of one element."""


def exact(x: Tensor) -> AbstractContextManager:
    """A block without autocast: bfloat16 logits of a scale of 100 are wrong in the second digit."""
    return torch.autocast(x.device.type, enabled=False)


def refuse_second_derivative() -> None:
    """Called in a backward pass that makes no graph of itself. Raises RuntimeError where one is asked for."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "this loss takes its gradient in tiles and cannot differentiate twice: call backward or autograd.grad "
            "without create_graph=True"
        )


def at_least_float32(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in their common dtype, float32 or wider."""
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in tensors], torch.float32)
    return [x.to(dtype) for x in tensors]


def check_embeddings(embeddings: Sequence[Tensor]) -> None:
    """Raises ValueError unless all are (n_m, D) floating tensors with one D."""
    shapes = ", ".join(str(tuple(x.shape)) for x in embeddings)
    if any(x.ndim != 2 or not x.is_floating_point() for x in embeddings) or len({x.shape[1] for x in embeddings}) > 1:
        kinds = ", ".join(str(x.dtype) for x in embeddings)
        raise ValueError(f"a loss takes floating tensors (n, D) of one D; got shapes {shapes} of {kinds}")


def one_number(scale: Scale, like: Tensor, name: str = "scale") -> Tensor:
    """scale as a 0-d tensor in like's dtype and device. Raises ValueError where it is more than one number."""
    number = torch.as_tensor(scale, dtype=like.dtype, device=like.device)
    if number.numel() != 1:
        raise ValueError(f"{name} is one number; got a tensor of shape {tuple(number.shape)}")
    return number.reshape(())


def row_ids(given: Tensor | None, x: Tensor, name: str) -> Tensor:
    """(n,) int64 sample ids of x's rows; without ids, row i belongs to sample i."""
    return torch.arange(len(x), device=x.device) if given is None else per_row(given, x, name)


def per_row(given: Tensor, x: Tensor, name: str) -> Tensor:
    """given on x's device. Raises ValueError unless it has one entry a row."""
    if given.shape != x.shape[:1]:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; its rows need ({len(x)},)")
    return given.to(x.device)


def row_weights(given: Tensor | None, x: Tensor, name: str) -> Tensor:
    """(n,) weights in x's dtype; ones where none are given."""
    return x.new_ones(len(x)) if given is None else per_row(given, x, name).to(x.dtype)


def both_or_neither(a: object, b: object, name: str) -> None:
    """Raises ValueError where only one side of a pair has groups."""
    if (a is None) != (b is None):
        raise ValueError(f"{name}_a and {name}_b come together; only {name}_{'b' if a is None else 'a'} was given")


class Sides(TypedDict):
    """What a function of two sides is told of their rows."""

    sample_a: Tensor
    sample_b: Tensor
    group_a: Tensor | None
    group_b: Tensor | None
    weight_a: Tensor | None
    weight_b: Tensor | None


def sides(samples: Sequence[Tensor], groups: Sequence[Tensor] | None, weights: Sequence[Tensor] | None) -> Sides:
    """What a loss module is told of two sets of rows, as the keywords of its function."""
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
    """The rows of M modalities, as a loss over all of them reads them."""

    values: list[Tensor]  # (n_m, D), of one dtype
    samples: list[Tensor]  # (n_m,)
    groups: list[Tensor] | None  # (n_m,)
    weights: list[Tensor]  # (n_m,)


def sets(
    embeddings: Sequence[Tensor],
    samples: Sequence[Tensor] | None,
    groups: Sequence[Tensor] | None,
    weights: Sequence[Tensor] | None,
) -> Sets:
    """Checks and fills in what was given of M >= 2 sets of rows. Raises ValueError for what does not fit."""
    check_embeddings(embeddings)
    M = len(embeddings)
    if M < 2:
        raise ValueError(f"this loss contrasts at least two modalities; got {M}")
    for name, given in (("samples", samples), ("groups", groups), ("weights", weights)):
        if given is not None and len(given) != M:
            raise ValueError(f"{name} are given for each of the {M} modalities; got {len(given)}")
    xs = at_least_float32(embeddings)
    return Sets(
        xs,
        [row_ids(samples[m] if samples else None, x, f"samples[{m}]") for m, x in enumerate(xs)],
        [per_row(groups[m], x, f"groups[{m}]") for m, x in enumerate(xs)] if groups else None,
        [row_weights(weights[m] if weights else None, x, f"weights[{m}]") for m, x in enumerate(xs)],
    )


def same(a: Tensor, b: Tensor) -> Tensor:
    """(n_a, n_b) bool: equal ids. A negative id equals nothing, not even itself."""
    return (a[:, None] == b[None, :]) & (a[:, None] >= 0)


def together(samples: Sequence[Tensor]) -> Tensor:
    """(C, M) int64: the rows of every tuple whose rows all belong to one sample, the first modality's row slowest.

    samples: M tensors (n_m,) of ids; a negative id belongs to none. By sorting: memory C·M, no matrix.
    """
    rows = (samples[0] >= 0).nonzero()  # (C, 1)
    for sample in samples[1:]:
        wanted = samples[0][rows[:, 0]]
        ordered, order = sample.sort(stable=True)
        first = torch.searchsorted(ordered, wanted)
        count = torch.searchsorted(ordered, wanted, right=True) - first
        before = count.cumsum(0) - count
        left = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
        right = order[first[left] + torch.arange(len(left), device=rows.device) - before[left]]
        rows = torch.cat([rows[left], right[:, None]], dim=1)
    return rows


def by_anchor(values: Tensor, anchor: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(n,) how many of the values (C,) each anchor (C,) in 0..n-1 has, and their mean, 0 where it has none."""
    count = values.new_zeros(n).index_add(0, anchor, torch.ones_like(values))
    total = values.new_zeros(n).index_add(0, anchor, values)
    return count, total / count.clamp(min=1)


def log_sum_by_anchor(logits: Tensor, anchor: Tensor, n: int) -> Tensor:
    """(n,) log Σ exp of the logits (C,) of each anchor (C,) in 0..n-1; the smallest number where it has none."""
    bounds = torch.finfo(logits.dtype)
    top = logits.new_full((n,), bounds.min).scatter_reduce(0, anchor, logits.detach(), "amax")
    total = logits.new_zeros(n).index_add(0, anchor, (logits - top[anchor]).exp())
    return total.clamp(min=bounds.tiny).log() + top


def weighted_mean(losses: Tensor, weights: Tensor, found: Tensor) -> Tensor:
    """Σ w·l / Σ w over the anchors that were found, all (n,); a differentiable zero where none counts."""
    weights = torch.where(found, weights, 0)
    total = weights.sum()
    return (weights * torch.where(found, losses, 0)).sum() / torch.where(total == 0, 1, total)


def nothing(*tensors: Tensor) -> Tensor:
    """A zero whose gradient to each tensor is zeros, never None."""
    return torch.stack([x.reshape(-1)[:0].sum() for x in tensors]).sum()


def log_sum(logits: Tensor, dim: int = -1) -> Tensor:
    """log Σ exp over dim, where a row of nothing but -inf gives the smallest number and zero gradients, never NaN."""
    bounds = torch.finfo(logits.dtype)
    top = logits.detach().amax(dim, keepdim=True).clamp(min=bounds.min)
    return (logits - top).exp().sum(dim).clamp(min=bounds.tiny).log() + top.squeeze(dim)
