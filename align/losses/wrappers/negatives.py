"""Rows that a wrapper adds as negatives: they belong to no sample and are no anchors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.inputs import row_weights
from align.losses.kernels.products import HALVES
from align.losses.loss import Given


def with_negatives(
    given: Given,
    added: Sequence[Tensor],
    added_groups: Sequence[Tensor],
    added_tokens: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> Given:
    """Return the rows with k_m more after them, of sample id -1 and weight 0.

    Weight 0 is for losses that sum over pairs, as SigLIP does. A pair of two added rows then counts nothing, a pair of
    a real and an added row counts the real row's half, and the divisor stays that of the real rows.

    added: M tensors (k_m, D). They are rounded beside halves, so that the loss multiplies halves.
    added_groups: M tensors (k_m,). They are dropped where the rows have no groups.
    added_tokens: (k_m, L, D) with masks (k_m, L), where the rows have tokens. L may differ from theirs.
    """
    embeddings, samples, weights = given.embeddings, given.samples, given.weights
    plain = [row_weights(weights[m] if weights else None, x, f"weights[{m}]") for m, x in enumerate(embeddings)]
    tokens = given.tokens
    if tokens is not None and added_tokens is not None:
        tokens = [stack_tokens(*pair) for pair in zip(tokens, added_tokens, strict=True)]
    return given._replace(
        embeddings=[torch.cat([x, _fit(more, x)]) for x, more in zip(embeddings, added, strict=True)],
        samples=[torch.cat([ids, ids.new_full((len(more),), -1)]) for ids, more in zip(samples, added, strict=True)],
        groups=None if given.groups is None else [torch.cat(p) for p in zip(given.groups, added_groups, strict=True)],
        weights=[torch.cat([w, w.new_zeros(len(more))]) for w, more in zip(plain, added, strict=True)],
        tokens=tokens,
        rule=None if given.rule is None else given.rule.pad([len(more) for more in added]),
        numbers=None
        if given.numbers is None
        else [torch.cat([n, n.new_full((len(more),), -1)]) for n, more in zip(given.numbers, added, strict=True)],
        labels=None
        if given.labels is None
        else [F.pad(y, (0, 0, 0, len(more)), value=-1) for y, more in zip(given.labels, added, strict=True)],
    )


def _fit(more: Tensor, x: Tensor) -> Tensor:
    return more.to(x.dtype) if x.dtype in HALVES else more


def stack_tokens(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return two sets of rows of tokens (n, L, D) with masks (n, L) as one set.

    The shorter rows are filled up with tokens that are not real.
    """
    length = max(first[1].shape[1], second[1].shape[1])
    more = [length - mask.shape[1] for _, mask in (first, second)]
    tokens = [F.pad(tokens, (0, 0, 0, k)) for (tokens, _), k in zip((first, second), more, strict=True)]
    masks = [F.pad(mask, (0, k)) for (_, mask), k in zip((first, second), more, strict=True)]
    return torch.cat(tokens), torch.cat(masks)
