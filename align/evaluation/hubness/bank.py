"""The banks of queries by which hubness is repaired: training rows, or those of the test set."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.overlap import refuse_overlap
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
    refuse_overlap(space, "train", "the bank is from the test set", "or say --bank test")
    return space.table(split="train")


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
