"""Rows of all ranks, in the order in which a single process would have them."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.distributed import gather, rank, world
from align.losses.kernels.products import has_half_products
from align.values import Embeddings, Rows


class Everyone(NamedTuple):
    """Rows of one modality on all ranks, sorted by global sample id."""

    values: Tensor  # (n, D), halves under autocast on a GPU
    sample: Tensor  # (n,) global ids: local * world + rank
    group: Tensor | None  # (n,)
    weight: Tensor | None  # (n,)
    tokens: Tensor | None = None  # (n, L, D), where a loss asked for them
    mask: Tensor | None = None  # (n, L)
    numbers: Tensor | None = None  # (n,) of each row's sample in the training set, -1 for none
    against: Tensor | None = None  # (n,) the sample where its pair is graded bad, else -1
    part: Tensor | None = None  # (n,) the part of its sample, -1 for the whole, NONE of a rank's rows without parts


NONE = -2
"""Part of the rows of a rank that states none, where another rank may state some."""


def everyone(embeddings: Embeddings, modality: str, tokens: bool = False) -> Everyone:
    """Return the rows of one modality on all ranks. Every rank must call it, for the same modalities in one order.

    tokens: return the rows' tokens and their mask too. Raises ValueError where these rows have none.
    """
    rows: Rows = embeddings[modality]
    if not isinstance(rows.values, Tensor):
        raise ValueError(f"embeddings are tensors (n, D); {modality} has a dict")
    if tokens and (rows.tokens is None or rows.mask is None):
        raise ValueError(f"a loss reads the tokens of {modality}; call model(batch, tokens=objective.tokens)")
    place = rows.owner * world() + rank()  # a hard negative has no id, and sorts with its owner as on a single process
    sample = torch.where(rows.sample >= 0, rows.sample * world() + rank(), -1)
    group = _of_rows(embeddings.group, rows.sample, -1)
    weight = _of_rows(embeddings.weight, rows.sample, 1.0)
    if world() > 1:  # one rank may have groups or weights where another has none
        group = torch.full_like(sample, -1) if group is None else group
        weight = (
            torch.ones(len(sample), dtype=torch.float64, device=sample.device) if weight is None else weight.double()
        )
    part = rows.part
    if world() > 1:  # one rank may have parts where another has none
        part = torch.full_like(sample, NONE) if part is None else part
    values, sample, place = gather(_halve(rows.values)), gather(sample), gather(place)
    order = place.argsort(stable=True)
    if tokens and rows.tokens is not None and rows.mask is not None and world() > 1:
        rows = rows._replace(**_as_long_as_the_longest(rows.tokens, rows.mask))
    return Everyone(
        values[order],
        sample[order],
        None if group is None else gather(group)[order],
        None if weight is None else gather(weight)[order],
        gather(_halve(rows.tokens))[order] if tokens and rows.tokens is not None else None,
        gather(rows.mask)[order] if tokens and rows.mask is not None else None,
        part=None if part is None else gather(part)[order],
    )


def _halve(x: Tensor) -> Tensor:
    """Return rows (n, ...) as autocast would give them to a matrix product, where the device multiplies halves.

    The losses then multiply halves with float32 sums, and ranks exchange half the bytes. A CPU has nothing to gain.
    """
    kind = x.device.type
    if x.dtype != torch.float32 or not has_half_products(x.device) or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))


def _as_long_as_the_longest(tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return tokens (n, L, D) and mask (n, L) with the largest L of all ranks: a preprocess may cut off the padding."""
    here = tokens.shape[1]
    more = int(gather(torch.tensor([here], device=tokens.device)).max()) - here
    return {"tokens": F.pad(tokens, (0, 0, 0, more)), "mask": F.pad(mask, (0, more))}


def _of_rows(of_samples: Tensor | None, sample: Tensor, absent: float) -> Tensor | None:
    if of_samples is None:
        return None
    found = of_samples[sample.clamp(min=0)] if len(of_samples) else of_samples.new_zeros(len(sample))
    return torch.where(sample >= 0, found, absent)
