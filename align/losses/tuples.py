"""Which tuples of rows Symile contrasts: the complete ones of a sample, and those an anchor is held against.

A tuple takes one row of each of M modalities; lengths are n_1, ..., n_M and ids (n_m,).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.pairing import log_sum, same


def complete_tuples(samples: Sequence[Tensor]) -> Tensor:
    """(C, M) int64: the rows of every tuple whose rows all belong to one sample. (C, n_m) booleans on the way."""
    rows = (samples[0] >= 0).nonzero()  # (C, 1)
    for sample in samples[1:]:
        left, right = (samples[0][rows[:, 0]][:, None] == sample).nonzero(as_tuple=True)
        rows = torch.cat([rows[left], right[:, None]], dim=1)
    return rows


def log_sum_by_anchor(logits: Tensor, anchor: Tensor, n: int) -> Tensor:
    """(n,) log Σ exp of the logits (C,) of each anchor (C,) in 0..n-1; the smallest number where it has none."""
    bounds = torch.finfo(logits.dtype)
    top = logits.new_full((n,), bounds.min).scatter_reduce(0, anchor, logits.detach(), "amax")
    total = logits.new_zeros(n).index_add(0, anchor, (logits - top[anchor]).exp())
    return total.clamp(min=bounds.tiny).log() + top


def products(embeddings: Sequence[Tensor]) -> Tensor:
    """(n_1·…·n_M, D): the elementwise product of every tuple, last modality fastest."""
    return functools.reduce(lambda x, y: (x[:, None, :] * y[None, :, :]).flatten(0, 1), embeddings)


def every_product(embeddings: Sequence[Tensor]) -> Tensor:
    """(n_1, ..., n_M): the multilinear inner product of every tuple, as one matrix product of two halves."""
    half = (len(embeddings) + 1) // 2
    flat = products(embeddings[:half]) @ products(embeddings[half:]).T
    return flat.view([len(x) for x in embeddings])


def shuffled(anchor: int, lengths: Sequence[int], generator: torch.Generator | None) -> list[Tensor]:
    """(K,) rows of each other modality, K the largest length: one randperm(n_m) each, in index order, repeated to K."""
    longest = max(lengths)
    draws = [torch.randperm(n, generator=generator, device=_home(generator)) for n in _others(lengths, anchor)]
    return [draw.repeat(-(-longest // len(draw)))[:longest] for draw in draws]


def sampled(anchor: int, lengths: Sequence[int], count: int, generator: torch.Generator | None) -> list[Tensor]:
    """(count,) rows of each other modality: one uniform draw with replacement each, in index order."""
    home = _home(generator)
    return [torch.randint(n, (count,), generator=generator, device=home) for n in _others(lengths, anchor)]


def _others(lengths: Sequence[int], anchor: int) -> list[int]:
    return [n for m, n in enumerate(lengths) if m != anchor]


def _home(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


class Tuples:
    """The rows of M modalities, for one scale: log Σ exp over an anchor's candidates, by the kind of negatives.

    Each method gives (n_m,) for anchor modality m. ``alike`` leaves out a tuple that is no positive but whose every
    row shares the anchor's sample or group: it is as right as a positive.
    """

    def __init__(
        self, embeddings: Sequence[Tensor], scale: Tensor, samples: Sequence[Tensor], groups: Sequence[Tensor] | None
    ):
        self.embeddings, self.scale, self.samples, self.groups = embeddings, scale, samples, groups
        self.lengths = [len(x) for x in embeddings]
        self.complete = complete_tuples(samples)  # (C, M)
        rows = [x[self.complete[:, m]] for m, x in enumerate(embeddings)]
        self.own = scale * functools.reduce(torch.mul, rows).sum(-1)  # (C,)

    def positives(self, m: int) -> tuple[Tensor, Tensor]:
        """(n_m,) how many complete tuples each anchor has, and the mean of their logits (0 where it has none)."""
        anchor = self.complete[:, m]
        count = self.own.new_zeros(self.lengths[m]).index_add(0, anchor, torch.ones_like(self.own))
        total = self.own.new_zeros(self.lengths[m]).index_add(0, anchor, self.own)
        return count, total / count.clamp(min=1)

    def all(self, m: int) -> Tensor:
        """Against all tuples."""
        others = [o for o in range(len(self.lengths)) if o != m]
        logits = self._every  # (n_1, ..., n_M)
        if self.groups is not None:
            own, alike = (torch.ones_like(logits, dtype=torch.bool) for _ in range(2))
            for o in others:
                belongs = same(self.samples[m], self.samples[o])
                own = own & self._spread(belongs, m, o)
                alike = alike & self._spread(belongs | same(self.groups[m], self.groups[o]), m, o)
            # An anchor without a positive keeps its candidates: were all of them alike, it would have none at all.
            logits = logits.masked_fill(alike & ~own & own.any(tuple(others), keepdim=True), -torch.inf)
        return logits.logsumexp(others)

    def drawn(self, m: int, rows: Sequence[Tensor], published: bool) -> Tensor:
        """Against an anchor's own complete tuples and K drawn ones, the same for all anchors.

        rows: (K,) of each other modality. published: as the published code has it, column i gives way to anchor i's
        own tuples and a drawn tuple that happens to be one of those counts again; else the latter is left out.
        """
        others = [o for o in range(len(self.lengths)) if o != m]
        picked = [row.to(self.own.device) for row in rows]
        product = functools.reduce(torch.mul, [self.embeddings[o][row] for o, row in zip(others, picked, strict=True)])
        logits = self.scale * (self.embeddings[m] @ product.T)  # (n_m, K)
        own, alike = (torch.ones_like(logits, dtype=torch.bool) for _ in range(2))
        for o, row in zip(others, picked, strict=True):
            belongs = same(self.samples[m], self.samples[o][row])
            own = own & belongs
            if self.groups is not None:
                alike = alike & (belongs | same(self.groups[m], self.groups[o][row]))
        left_out = torch.eye(*logits.shape, dtype=torch.bool, device=logits.device) if published else own
        if self.groups is not None:
            left_out = left_out | (alike & ~own)
        return torch.logaddexp(self._own(m), log_sum(logits.masked_fill(left_out, -torch.inf)))

    def partial(self, m: int) -> Tensor:
        """Against the tuples in which at most one row, and not the anchor, belongs to another sample."""
        parts = [self._own(m)]
        for o in range(len(self.lengths)):
            if o == m:
                continue
            kept = [k for k in range(len(self.lengths)) if k != o]
            rows = complete_tuples([self.samples[k] for k in kept])  # (C', M - 1)
            anchor = rows[:, kept.index(m)]
            product = functools.reduce(torch.mul, [self.embeddings[k][rows[:, i]] for i, k in enumerate(kept)])
            logits = self.scale * (product @ self.embeddings[o].T)  # (C', n_o)
            left_out = same(self.samples[m][anchor], self.samples[o])
            if self.groups is not None:
                left_out = left_out | same(self.groups[m][anchor], self.groups[o])
            swapped = log_sum(logits.masked_fill(left_out, -torch.inf))  # (C',)
            parts.append(log_sum_by_anchor(swapped, anchor, self.lengths[m]))
        return log_sum(torch.stack(parts), dim=0)

    def _spread(self, pairs: Tensor, m: int, o: int) -> Tensor:
        shape = [n if axis in (m, o) else 1 for axis, n in enumerate(self.lengths)]
        return (pairs if m < o else pairs.T).reshape(shape)

    def _own(self, m: int) -> Tensor:
        return log_sum_by_anchor(self.own, self.complete[:, m], self.lengths[m])

    @functools.cached_property
    def _every(self) -> Tensor:
        return self.scale * every_product(self.embeddings)
