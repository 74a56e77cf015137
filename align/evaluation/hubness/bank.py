"""The banks of queries by which hubness is repaired: training rows, or those of the test set."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.space import Space
from align.scoring import choose, cosine_unit, score
from align.scoring.bank import Bank
from align.seeds import generator
from align.values import Embeddings

Split = Literal["train", "test"]


def open_bank(space: Space, split: Split) -> Embeddings | None:
    """Return the table that banks are drawn from, or None where the space has no training shards.

    Raises ValueError where the training shards hold samples of the test set.
    """
    if split == "test":
        return space.table()
    if space.train is None:
        return None
    table = space.table(split="train")
    if same := find_same(space.table(), table):
        raise ValueError(
            f"the bank is from the test set: {len(same):,} of {table.size:,} training samples have the key and the "
            f"content of a test sample, {same[0]!r} the first; give other shards with --train, or say --bank test"
        )
    return table


def find_same(test: Embeddings, train: Embeddings) -> list[str]:
    """Return the keys of training samples that are test samples too: equal keys, and rows of equal content.

    Every modality of which both have rows counts. A row of unknown content equals no other.
    """
    there: dict[str, list[dict[str, frozenset[int]]]] = {}
    for key, contents in zip(test.ids, _list_contents(test), strict=True):
        there.setdefault(key, []).append(contents)
    return [
        key
        for key, contents in zip(train.ids, _list_contents(train), strict=True)
        if any(_are_same(contents, other) for other in there.get(key, ()))
    ]


def read_rows(table: Embeddings, modality: str, size: int, seed: int) -> Tensor:
    """Return the rows (b, D) of a modality that belong to a sample. size: how many are drawn. 0: all of them."""
    if modality not in table:
        return torch.empty(0, 0)
    place = (table[modality].sample >= 0).nonzero()[:, 0]
    if 0 < size < len(place):
        place = place[torch.randperm(len(place), generator=generator("hubness", seed, modality))[:size].sort().values]
    return vectors(table, modality)[place]


def make_bank(space: Space, queries: Tensor, query: str, of: str) -> Bank:
    """Return the bank of queries of a modality against all test rows of another, by the rule of every search."""
    terms = space.model.terms
    how = choose(terms, (query,), of)

    def by_rule(asks: Tensor, candidates: Tensor) -> Tensor:
        return score({query: asks}, candidates, how, of=of, terms=terms)

    return Bank(queries, vectors(space.table(), of), by_rule, cosine_unit(terms, (query,), of))


def _list_contents(table: Embeddings) -> list[dict[str, frozenset[int]]]:
    """Return for each sample: modality -> the numbers of its rows' contents."""
    found: list[dict[str, set[int]]] = [{} for _ in range(table.size)]
    for m, rows in table.items():
        if rows.content is not None:
            for sample, content in zip(rows.sample.tolist(), rows.content.tolist(), strict=True):
                if sample >= 0:
                    found[sample].setdefault(m, set()).add(content)
    return [{m: frozenset(numbers) for m, numbers in one.items()} for one in found]


def _are_same(one: dict[str, frozenset[int]], other: dict[str, frozenset[int]]) -> bool:
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[m] == other[m] and min(one[m]) >= 0 for m in shared)
