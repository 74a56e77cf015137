"""Which retrieved row counts as found: the same sample, a sample of the same group, or one that shares a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from align.evaluation.labels import memberships
from align.values import Embeddings

Rule = Callable[[Tensor, Tensor], Tensor]
"""(query samples (q,), candidate samples (c,)) -> (q, c) bool. Samples of -1 hit nothing."""


def by_sample() -> Rule:
    """A hit is a row of the same sample."""
    return lambda a, b: (a[:, None] == b) & (a >= 0)[:, None] & (b >= 0)


def by_group(embeddings: Embeddings) -> Rule:
    """A hit is a row whose sample has the same group; samples without a group (-1) hit their own rows only."""
    if embeddings.group is None:
        return by_sample()
    own = -1 - torch.arange(embeddings.size)  # below zero, where no group is
    mark = torch.where(embeddings.group.cpu() >= 0, embeddings.group.cpu(), own)
    return lambda a, b: (mark[a][:, None] == mark[b]) & (a >= 0)[:, None] & (b >= 0)


def by_label(embeddings: Embeddings, attribute: str, classes: Sequence[str]) -> Rule:
    """A hit is a row whose sample shares a class of the attribute; samples without a label hit nothing."""
    table = memberships(embeddings.labels, attribute, classes).float()
    return lambda a, b: (table[a] @ table[b].T > 0) & (a >= 0)[:, None] & (b >= 0)


def has_groups(embeddings: Embeddings) -> bool:
    """Whether any sample carries a group."""
    return embeddings.group is not None and bool((embeddings.group >= 0).any())
