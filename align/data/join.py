"""Joining of the workers' pieces to the batch that one process would have made, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from align.data.grades import join_grades
from align.values import Batch, Rows, Values


def mark(sample: Any) -> Any:
    """Return the mark of a hard negative of ``sample`` in a piece: below -1, so that ``join`` can place it."""
    return -2 - sample


def join(pieces: Sequence[Batch], *, marks: bool = False) -> Batch:
    """Return one batch of the pieces' positions in ascending order. Rows are in the order of their samples.

    A hard negative (sample -1) stays behind the row that it follows in its piece. marks: a hard negative has the
    ``mark`` of its sample instead of -1.
    """
    if not pieces:
        raise ValueError("no pieces to join")
    starts = list(accumulate((p.size for p in pieces[:-1]), initial=0))  # of each piece, in all of their samples
    position = torch.cat([p.position for p in pieces])
    by_position = torch.argsort(position, stable=True)  # (B,) old index at each new place
    place = torch.empty_like(by_position)
    place[by_position] = torch.arange(len(by_position))
    order = by_position.tolist()
    grade = join_grades([p.grade for p in pieces], [p.size for p in pieces])

    def flat(parts: Sequence[list[Any]]) -> list[Any]:
        together = [x for part in parts for x in part]
        return [together[i] for i in order] if len(together) == len(order) else together

    return Batch(
        {m: _rows([p[m] for p in pieces], starts, place, marks) for m in pieces[0]},
        ids=flat([p.ids for p in pieces]),
        position=position[by_position],
        labels=flat([p.labels for p in pieces]),
        source=flat([p.source for p in pieces]),
        group=_column([p.group for p in pieces], pieces, by_position, -1, torch.int64),
        weight=_column([p.weight for p in pieces], pieces, by_position, 1.0, torch.float32),
        grade=None if grade is None else {pair: column[by_position] for pair, column in grade.items()},
    )


def _rows(parts: Sequence[Rows], starts: Sequence[int], place: Tensor, marks: bool) -> Rows:
    owners, negatives = [], []
    for part, start in zip(parts, starts, strict=True):
        owner, negative = _owner(part.sample)
        known = owner >= 0
        owners.append(torch.where(known, place[(owner + start).clamp(min=0)] if len(place) else owner, owner))
        negatives.append(negative)
    owner, negative = torch.cat(owners), torch.cat(negatives)
    order = torch.argsort(owner, stable=True)
    same = bool((order == torch.arange(len(order))).all())
    sample = torch.where(negative, -2 - owner if marks else -1, owner)

    def put(x: Tensor) -> Tensor:
        return x if same else x[order]

    return Rows(
        _each([part.values for part in parts], lambda many: put(torch.cat(list(many)) if len(many) > 1 else many[0])),
        put(sample),
        _maybe([part.tokens for part in parts], put),
        _maybe([part.mask for part in parts], put),
        part=join_parts(parts, put),
    )


def join_parts(many: Sequence[Rows], put: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor | None:
    """Return the ``part`` of joined rows, -1 for rows of a piece without parts, or None where no piece has any."""
    if all(rows.part is None for rows in many):
        return None
    return put(torch.cat([torch.full_like(rows.sample, -1) if rows.part is None else rows.part for rows in many]))


def _owner(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,) the sample that each row moves with, and (n,) bool: the row is a hard negative."""
    negative = sample < 0
    if not bool(negative.any()):
        return sample, negative
    owners, last = [], -1
    for s in sample.tolist():
        last = s if s >= 0 else -2 - s if s < -1 else last
        owners.append(last)
    return torch.tensor(owners, dtype=torch.int64), negative


def _each(many: Sequence[Any], function: Callable[[Sequence[Tensor]], Tensor]) -> Values:
    """Apply a function to the parts' tensors, or to those of each name where the values are dicts."""
    if isinstance(many[0], dict):
        return {name: function([values[name] for values in many]) for name in many[0]}
    return function(many)


def _maybe(many: Sequence[Tensor | None], put: Callable[[Tensor], Tensor]) -> Tensor | None:
    found = [x for x in many if x is not None]
    return put(torch.cat(found)) if len(found) == len(many) else None


def _column(
    many: Sequence[Tensor | None], pieces: Sequence[Batch], order: Tensor, fill: float, dtype: torch.dtype
) -> Tensor | None:
    if all(column is None for column in many):
        return None
    filled = [torch.full((p.size,), fill, dtype=dtype) if c is None else c for c, p in zip(many, pieces, strict=True)]
    return torch.cat(filled)[order]
