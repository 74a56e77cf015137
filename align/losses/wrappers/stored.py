"""Rows of a bank: stored by the number of their sample, and looked up by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, per_row
from align.losses.kernels.numerics import at_least_float32


class Stored(NamedTuple):
    """Rows of a bank, in the order of their samples' numbers."""

    rows: Tensor  # (R, D)
    numbers: Tensor  # (R,) the sample of each row in the training set
    groups: Tensor  # (R,) -1: none
    equals: Tensor  # (R,) one id for rows of equal content
    joined: Tensor | None  # (R,) for tuples: one id for samples that share a group or content, in one step or several
    most: int  # rows of one sample at most

    def to(self, device: torch.device) -> Stored:
        """Return the rows on a device."""
        joined = None if self.joined is None else self.joined.to(device)
        rows, numbers, groups, equals = (x.to(device) for x in (self.rows, self.numbers, self.groups, self.equals))
        return Stored(rows, numbers, groups, equals, joined, self.most)

    def find_content(self, numbers: Tensor) -> Tensor:
        """Return the ids of content that samples (n,) have in the bank, (n, K), filled up with -1."""
        place, real = self._places(numbers)
        return torch.where(real, self.equals[place], -1)

    def find_nearest(self, x: Tensor, numbers: Tensor) -> Tensor:
        """Return the id of content of each row (n, D) of this modality, (n,): that of its sample's nearest row."""
        place, real = self._places(numbers)
        if self.most == 1:
            return torch.where(real, self.equals[place], -1)[:, 0]
        cosine = (self.rows[place] * x[:, None]).sum(2).masked_fill(~real, -torch.inf)  # (n, K)
        best = cosine.argmax(1, keepdim=True)
        return torch.where(real, self.equals[place], -1).gather(1, best)[:, 0]

    def find_joined(self, numbers: Sequence[Tensor], groups: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the groups (n_m,) of rows as the bank joins them. A sample that is not in the bank has none."""
        assert self.joined is not None  # asked by the caller
        out = []
        for m, number in enumerate(numbers):
            place, real = self._places(number)
            found = torch.where(real[:, 0], self.joined[place[:, 0]], -1)
            if groups is not None:  # a hole in this modality: the group alone says whose it is
                group = groups[m].to(found.device)
                known, at = self.groups.sort(stable=True)
                near = torch.searchsorted(known, group).clamp(max=len(known) - 1)
                of_group = torch.where((known[near] == group) & (group >= 0), self.joined[at[near]], -1)
                found = torch.where(found < 0, of_group, found)
            out.append(found)
        return out

    def _places(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (n, K) of samples in the bank, and (n, K) bool, True for a used place."""
        first = torch.searchsorted(self.numbers, numbers)[:, None]
        end = torch.searchsorted(self.numbers, numbers, right=True)[:, None]
        place = first + torch.arange(self.most, device=numbers.device)
        return place.clamp(max=len(self.numbers) - 1), (place < end) & (numbers >= 0)[:, None]


def store(values: Tensor, numbers: Tensor, groups: Tensor | None, content: Tensor | None, *, joins: bool) -> Stored:
    """Return rows as a bank stores them, see ``Bank.fill``. joins: for tuples, which read joined groups.

    Raises ValueError for shapes that do not fit, and for rows that are not finite.
    """
    check_embeddings([values])
    rows = at_least_float32([values.detach()])[0]
    numbers = per_row(numbers, rows, "numbers")
    groups = torch.full_like(numbers, -1) if groups is None else per_row(groups, rows, "groups")
    content = _equal_rows(rows) if content is None else per_row(content, rows, "content")
    if len(numbers) and int(numbers.min()) < 0:
        raise ValueError(f"a row of a bank belongs to a sample of number 0 or more; got {int(numbers.min())}")
    if not bool(rows.isfinite().all()):
        bad = int((~rows.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"row {bad} of the bank, of sample {int(numbers[bad])}, is not finite")
    order = numbers.argsort(stable=True)
    numbers, groups = numbers[order], groups[order]
    equals = content.unique(return_inverse=True)[1][order]
    joined = _join(numbers, groups, equals) if joins else None
    most = int(numbers.unique_consecutive(return_counts=True)[1].max()) if len(numbers) else 1
    return Stored(rows[order], numbers, groups, equals, joined, most)


def _equal_rows(rows: Tensor) -> Tensor:
    """Return an id (R,) of each row (R, D). Rows with equal bytes have one id."""
    table = np.ascontiguousarray(rows.cpu().numpy())
    if not table.size:
        return torch.zeros(len(rows), dtype=torch.int64)
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    return torch.from_numpy(np.unique(keys, return_inverse=True)[1].ravel().astype(np.int64))


def _join(numbers: Tensor, groups: Tensor, equals: Tensor) -> Tensor:
    """Return an id (R,) of each row, equal for rows that share a sample, a group or content, also by way of others."""
    top = torch.arange(len(numbers))
    keys = [torch.where(k >= 0, k.unique(return_inverse=True)[1], -1).cpu() for k in (numbers, groups, equals)]
    while True:
        before = top
        for key in keys:
            real = key >= 0
            least = torch.full((len(top) + 1,), len(top)).scatter_reduce(0, key[real], top[real], "amin")
            top = torch.where(real, torch.minimum(top, least[key]), top)
        if torch.equal(before, top):
            return top.to(numbers.device)
