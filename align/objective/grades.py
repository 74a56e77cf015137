"""Grades of a batch's pairs as a loss reads them: sample ids, weights, groups, and negatives by name.

The grade of a sample in a call is the worst grade of the pairs among the call's modalities. For Symile these are all
pairs of a tuple. ``GRADES`` has the grades in order, and an unstated pair is good.

- partial: as anchors, the sample's rows count with their weight times the term's ``partial``.
- exclude: the sample's rows are no positives of each other. They form a group, so they are no negatives either.
- bad: the sample's rows are negatives of each other, whatever their group. In a softmax an anchor needs a positive, so
  there they are only negatives of other samples. SigLIP pushes the two apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.distributed import gather, rank, world
from align.objective.everyone import Everyone
from align.values import GRADES, Embeddings

PARTIAL, EXCLUDE, BAD = (GRADES.index(word) for word in ("partial", "exclude", "bad"))


class Facts(NamedTuple):
    """Facts of the samples of all ranks, in the order of their ids."""

    ids: Tensor  # (N,) global sample ids
    pairs: list[str]  # P names of pairs
    grade: Tensor  # (N, P)
    number: Tensor | None  # (N,) in the training set, where a loss asks for it


def name_pairs(modalities: Sequence[str]) -> list[str]:
    """Return the name of every pair of modalities, as a batch's grades have it."""
    return ["+".join(sorted(pair)) for pair in itertools.combinations(modalities, 2)]


def gather_facts(embeddings: Embeddings, calls: Sequence[Sequence[str]], numbers: bool) -> Facts | None:
    """Return the grades and numbers of all ranks' samples, or None where there are none. Every rank must call it.

    calls: the modalities of each call of a loss. numbers: a loss asks for the samples' numbers.
    """
    stated = embeddings.grade or {}
    pairs = sorted({pair for call in calls for pair in name_pairs(call)})
    numbered = numbers and embeddings.number is not None
    if world() == 1 and not numbered and not any(pair in stated for pair in pairs):
        return None
    device, size = embeddings.position.device, embeddings.size
    none = torch.zeros(size, dtype=torch.int64, device=device)
    number = embeddings.number if numbered and embeddings.number is not None else none - 1
    ids = torch.arange(size, device=device) * world() + rank()
    columns = [ids, number, *(stated.get(pair, none) for pair in pairs)]
    table = gather(torch.stack([column.to(device) for column in columns], dim=1))  # (N, 2 + P)
    ids, number, *columns = table[table[:, 0].argsort()].T.contiguous()
    return Facts(ids, pairs, torch.stack(columns, dim=1), number if numbered else None)


def apply_grades(chosen: Sequence[Everyone], facts: Facts, modalities: Sequence[str], partial: float) -> list[Everyone]:
    """Return the rows of one call, with the ids, weights and groups that follow from the grades, and with numbers.

    partial: the factor of an anchor's weight if its pair has the grade partial.
    """
    if not len(facts.ids):
        return [*chosen]
    columns = [facts.pairs.index(pair) for pair in name_pairs(modalities)]
    worst = facts.grade[:, columns].amax(1) if columns else torch.zeros_like(facts.ids)  # (N,)
    places = [torch.searchsorted(facts.ids, r.sample).clamp(max=len(facts.ids) - 1) for r in chosen]
    rows = [*chosen]
    if facts.number is not None:
        of_rows = [torch.where(r.sample >= 0, facts.number[p], -1) for r, p in zip(rows, places, strict=True)]
        rows = [r._replace(numbers=number) for r, number in zip(rows, of_rows, strict=True)]
    if not bool(worst.any()):
        return rows
    grades = [torch.where(r.sample >= 0, worst[p], 0) for r, p in zip(rows, places, strict=True)]
    groups = _excluding_groups(rows, grades) if bool((worst == EXCLUDE).any()) else [r.group for r in rows]
    top = facts.ids[-1] + 1
    out = []
    for m, (r, grade, group) in enumerate(zip(rows, grades, groups, strict=True)):
        weight = torch.ones_like(r.sample, dtype=torch.float64) if r.weight is None else r.weight
        alone = top * (m + 1) + r.sample  # an id that no other modality has
        out.append(
            r._replace(
                sample=torch.where(grade >= EXCLUDE, alone, r.sample),
                weight=torch.where(grade == PARTIAL, partial * weight, weight),
                group=group,
                against=torch.where(grade == BAD, r.sample, -1),
            )
        )
    return out


def _excluding_groups(rows: Sequence[Everyone], grades: Sequence[Tensor]) -> list[Tensor]:
    """Return groups (n_m,). A sample with the grade ``exclude`` gets a group, where the shards state none."""
    lengths = [len(r.sample) for r in rows]
    stated = torch.cat([torch.full_like(r.sample, -1) if r.group is None else r.group for r in rows])
    sample, grade = torch.cat([r.sample for r in rows]), torch.cat([*grades])
    kinds, group = stated.unique(return_inverse=True)  # renumbered: a group's number may be any of 63 bits
    group = torch.where(stated >= 0, group, -1)
    return [*torch.where((grade == EXCLUDE) & (stated < 0), len(kinds) + sample, group).split(lengths)]
