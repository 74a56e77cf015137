"""Tuples that Symile contrasts an anchor with where it does not take all: drawn ones, or one modality swapped.

A tuple takes one row of each of M modalities. Lengths are n_1, ..., n_M and ids (n_m,).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from align.losses.kernels.pairing import complete_tuples, equal, log_sum_by_anchor, same
from align.losses.kernels.parts import Merge, detach_others
from align.losses.kernels.row_sums import row_log_sums
from align.losses.kernels.slabs import Slab
from align.losses.kernels.tiles import log_sums
from align.losses.kernels.tuple_logits import tuple_logits


def shuffle_rows(anchor: int, lengths: Sequence[int], generator: torch.Generator | None) -> list[Tensor]:
    """Return K rows of each other modality, a randperm(n_m) each in index order, repeated to K, the largest length."""
    longest = max(lengths)
    draws = [torch.randperm(n, generator=generator, device=_home(generator)) for n in _others(lengths, anchor)]
    return [draw.repeat(-(-longest // len(draw)))[:longest] for draw in draws]


def draw_rows(anchor: int, lengths: Sequence[int], count: int, generator: torch.Generator | None) -> list[Tensor]:
    """Return ``count`` rows of each other modality, a uniform draw with replacement each, in index order."""
    home = _home(generator)
    return [torch.randint(n, (count,), generator=generator, device=home) for n in _others(lengths, anchor)]


def _others(lengths: Sequence[int], anchor: int) -> list[int]:
    return [n for m, n in enumerate(lengths) if m != anchor]


def _home(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


@dataclass(frozen=True)
class Tuples:
    """Rows of M modalities, for one scale, and their complete tuples."""

    embeddings: Sequence[Tensor]
    scale: Tensor
    samples: Sequence[Tensor]
    groups: Sequence[Tensor] | None
    part: tuple[int, int]
    merge: Merge | None
    tile: int | None

    @functools.cached_property
    def wide(self) -> list[Tensor]:
        """The rows in the scale's dtype, for products of several of them and for the sums of their gradients."""
        return [x.to(self.scale.dtype) for x in self.embeddings]

    @functools.cached_property
    def complete(self) -> Tensor:
        """The tuples whose rows all belong to one sample, (C, M)."""
        return complete_tuples(self.samples)

    @functools.cached_property
    def complete_logits(self) -> Tensor:
        """Their logits, (C,)."""
        return tuple_logits(self.embeddings, self.scale, self.complete, tile=self.tile)

    def complete_log_sum(self, m: int, logits: Tensor) -> Tensor:
        """Return log Σ exp of each anchor's complete tuples, (n_m,). It is the smallest number where there is none."""
        return log_sum_by_anchor(logits, self.complete[:, m], len(self.embeddings[m]))

    def sum_drawn(self, m: int, rows: Sequence[Tensor], weight: Tensor, published: bool) -> Tensor:
        """Return Σ_i weight_i·log Σ exp over anchor i's complete tuples and K drawn ones; 0-d. All anchors share the K.

        rows: (K,) of each other modality.
        published: as the published code has it, column i gives way to anchor i's complete tuples, and a drawn tuple
            that happens to be one of those counts again. Else such a tuple is left out.
        """
        others = [o for o in range(len(self.embeddings)) if o != m]
        picked = [row.to(self.scale.device) for row in rows]
        product = functools.reduce(torch.mul, [self.wide[o][r] for o, r in zip(others, picked, strict=True)])

        def forbid(logits: Tensor, start: int) -> None:
            if published:
                logits.diagonal(start).fill_(-torch.inf)
                if self.groups is None:
                    return
            anchors = slice(start, start + len(logits))
            positive, alike = (torch.ones((), dtype=torch.bool, device=logits.device) for _ in range(2))
            for o, row in zip(others, picked, strict=True):
                belongs = same(self.samples[m][anchors], self.samples[o][row])
                positive = positive & belongs
                if self.groups is not None:
                    alike = alike & (belongs | same(self.groups[m][anchors], self.groups[o][row]))
            if self.groups is not None:
                logits.masked_fill_(alike & ~positive, -torch.inf)
            if not published:
                logits.masked_fill_(positive, -torch.inf)

        return row_log_sums(
            self.embeddings[m],
            product,
            self.scale,
            self.complete_log_sum(m, self.complete_logits),  # not detached: the sum takes this part's rows only
            weight,
            forbid,
            part=self.part,
            merge=self.merge,
            tile=self.tile,
        )

    def partial(self) -> list[Tensor]:
        """Return each modality's log Σ exp, (n_m,), over complete tuples and those with one other row swapped.

        A swapped row is of another sample. The tuples with modality o swapped are the same for all other anchors: M
        matrices, not M·(M - 1).
        """
        M = len(self.embeddings)
        right = detach_others(self.complete_logits, self.part)
        parts = [[self.complete_log_sum(m, right)] for m in range(M)]
        for o in range(M):
            kept = [k for k in range(M) if k != o]
            rows = complete_tuples([self.samples[k] for k in kept])  # (C', M - 1)
            if not len(rows):
                continue
            product = functools.reduce(torch.mul, [self.wide[k][rows[:, i]] for i, k in enumerate(kept)])
            groups = None if self.groups is None else [self.groups[k][rows[:, i]] for i, k in enumerate(kept)]
            swapped: Tensor | None = None
            for i, m in enumerate(kept):
                if swapped is None or (groups is not None and not torch.equal(groups[i], groups[i - 1])):
                    sample, group = self.samples[m][rows[:, i]], groups[i] if groups else None  # (C',)
                    swapped = self._sum_swapped(product, o, sample, group)
                parts[m].append(log_sum_by_anchor(swapped, rows[:, i], len(self.embeddings[m])))
        return [torch.stack(part).logsumexp(0) for part in parts]

    def _sum_swapped(self, product: Tensor, o: int, sample: Tensor, group: Tensor | None) -> Tensor:
        """Return log Σ exp of each product (C', D) with the rows of o that are of another sample and group, (C',)."""

        def forbid(logits: Tensor, m: int, slab: Slab) -> None:
            place = [slab.rows(0, len(product), logits.device), slab.rows(1, len(self.samples[o]), logits.device)]
            alike = equal(sample[place[0]], self.samples[o][place[1]])
            if group is not None and self.groups is not None:
                alike = alike | equal(group[place[0]], self.groups[o][place[1]])
            logits.masked_fill_(alike, -torch.inf)

        sums, _ = log_sums(
            [product, self.embeddings[o]],
            self.scale,
            sample.new_zeros(0, 2),
            anchors=[0],
            forbid=forbid,
            part=self.part,
            merge=self.merge,
            tile=self.tile,
            factors=[len(self.embeddings) - 1, 1],
        )
        return sums[0].clamp(min=torch.finfo(product.dtype).min)  # no row to swap with: -inf would have no gradient
