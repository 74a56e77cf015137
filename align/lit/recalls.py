"""Recall@1 on the validation set: in every direction that the objective trains, and between all modalities if asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import torch
from torch import Tensor

from align.distributed import gather, rank, world
from align.metrics import ranks, recall_at
from align.scoring import choose, score
from align.values import Embeddings, TermInfo


def directions(infos: Sequence[TermInfo], modalities: Sequence[str] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (query modalities, candidate modality) of each term: all other modalities of the term ask for each of them.

    modalities: every ordered pair of them that no term has follows.
    """
    seen = set()
    for info in infos:
        for of in info.modalities:
            query = tuple(m for m in sorted(info.modalities) if m != of)
            if (query, of) not in seen:
                seen.add((query, of))
                yield query, of
    for a, b in permutations(modalities, 2):
        if ((a,), b) not in seen:
            yield (a,), b


def name(query: tuple[str, ...], of: str) -> str:
    return f"val/{'+'.join(query)}_to_{of}/recall@1"


def columns(infos: Sequence[TermInfo], modalities: Sequence[str] = ()) -> list[str]:
    """Return the names of all values of a validation."""
    return ["val/loss", *(name(query, of) for query, of in directions(infos, modalities))]


def recalls(
    batches: Sequence[Embeddings], infos: Sequence[TermInfo], modalities: Sequence[str] = (), *, most: int = 4096
) -> dict[str, float]:
    """Return recall@1 over the first `most` query rows, for every direction. modalities: see `directions`.

    A row of the same group hits, or one of the same sample where that has no group. Candidates are ordered as in
    evaluation and search, see ``align.scoring.choose``.
    """
    asked = list(directions(infos, modalities))
    table = {m: _all_rows(batches, m) for m in sorted({m for query, of in asked for m in (*query, of)})}
    return {name(q, of): _recall(table, q, of, most, infos) for q, of in asked}


def _all_rows(batches: Sequence[Embeddings], modality: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return values (n, D), sample (n,) and hit key (n,) of all ranks, without rows that match nothing."""
    values, samples, keys, offset = [], [], [], 0
    for batch in batches:
        rows = batch[modality]
        at = rows.sample.clamp(min=0)
        number = (at + offset) * world() + rank()
        group = torch.full_like(number, -1) if batch.group is None else batch.group[at]
        key = torch.where(group >= 0, group, -2 - number)  # a sample's key is below zero, where no group's is
        real = rows.sample >= 0
        values.append(rows.values[real])  # pyright: ignore[reportArgumentType]
        samples.append(number[real])
        keys.append(key[real])
        offset += batch.size
    if not values:
        raise ValueError("the validation set has no batch")
    v, s, k = (gather(torch.cat(parts)) for parts in (values, samples, keys))
    return v.float(), s, k


def _recall(
    table: dict[str, tuple[Tensor, Tensor, Tensor]],
    query: tuple[str, ...],
    of: str,
    most: int,
    infos: Sequence[TermInfo],
) -> float:
    values, samples, keys = table[query[0]]
    parts = [values]
    for other in query[1:]:  # the samples that have all of them, first row each
        v, s, _ = table[other]
        first = {int(x): i for i, x in reversed(list(enumerate(s.tolist())))}
        both = [(i, first[x]) for i, x in enumerate(samples.tolist()) if x in first]
        left, right = (torch.tensor([pair[side] for pair in both], dtype=torch.long) for side in (0, 1))
        parts, samples, keys = [*(part[left] for part in parts), v[right]], samples[left], keys[left]
    candidates, _, candidate_keys = table[of]
    if not len(samples) or not len(candidates):
        return float("nan")
    how = choose(infos, query, of)
    found = []
    for i in range(0, min(most, len(samples)), 1024):
        block = slice(i, min(most, i + 1024))
        scores = score({m: x[block] for m, x in zip(query, parts, strict=True)}, candidates, how, of=of, terms=infos)
        found.append(ranks(scores, keys[block, None] == candidate_keys))
    return float(recall_at(torch.cat(found), 1))
