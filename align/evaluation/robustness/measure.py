"""Right and wrong of each query under zero-shot and retrieval, on tables of which one modality changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from align.embedding.tables import first_rows, vectors
from align.evaluation.blocks import score_blocks
from align.evaluation.hits import Captions
from align.evaluation.labels import memberships
from align.evaluation.prompts import class_prompts, equal_prompts
from align.evaluation.space import Space
from align.metrics import ranks
from align.scoring import choose, score
from align.values import Embeddings

CHUNK = 4096  # queries of zero-shot scored at a time


class Asked(NamedTuple):
    """Answers to the queries that count. right: (q,) float32, 1 or 0. sample: (q,) int64."""

    right: Tensor
    sample: Tensor


@final
class Measures:
    """Zero-shot accuracy and recall@k of queries, with prompts and candidates as they are without changes.

    names: "zeroshot" and "retrieval", or one of them. text: the modality of the prompts. k: of recall@k.
    """

    def __init__(self, space: Space, names: Sequence[str], *, text: str, k: int):
        self.space, self.text, self.k = space, text, k
        self.table, self.terms = space.table(), space.model.terms
        self.retrieval = "retrieval" in names
        reads = "zeroshot" in names and text in space.model.modalities
        self.classes = {a: found for a in space.classes if reads and (found := self._prompts(a)) is not None}

    def _prompts(self, attribute: str) -> tuple[Tensor, Tensor] | None:
        """Return (prompts (C, D), classes of each sample (B, C)) of an attribute, or None where no sample has one."""
        names, templates = self.space.classes[attribute], self.space.templates[attribute]
        members = memberships(self.table.labels, attribute, list(names))  # (B, labels)
        if not members.any():
            return None
        words = list(names.values())
        number = torch.tensor(equal_prompts(self.space.model, words, templates, text=self.text))
        kept = number.unique()
        members = torch.stack([members[:, number == i].any(dim=1) for i in kept], dim=1)  # (B, C)
        return class_prompts(self.space.model, [words[i] for i in kept], templates, text=self.text), members

    def ask_with(self, table: Embeddings, modality: str) -> dict[str, Asked]:
        """Return the measurements of all rows of a modality of ``table`` as queries: see ``ask``."""
        return self.ask({modality: vectors(table, modality)}, table[modality].sample)

    def ask(
        self, query: Mapping[str, Tensor], sample: Tensor, answers: Sequence[str] | None = None
    ) -> dict[str, Asked]:
        """Return ``zeroshot/ATTRIBUTE/accuracy`` and ``to_MODALITY/recall@k`` -> the answers to the queries.

        query: modality -> (n, D). sample: (n,), -1 asks nothing. answers: the modalities to find. None: all others. A
        measurement in which no query counts is left out.
        """
        wanted = [m for m in self.table if m not in query and self.table[m].n] if answers is None else answers
        found: dict[str, Asked] = {}
        if self.text not in query and self.text in wanted:
            for attribute, (prompts, members) in self.classes.items():
                found[f"zeroshot/{attribute}/accuracy"] = self._classify(query, sample, prompts, members)
        for of in wanted if self.retrieval else ():
            found[f"to_{of}/recall@{self.k}"] = self._retrieve(query, sample, of)
        return {name: one for name, one in found.items() if len(one.sample)}

    def ask_together(self, asked: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the query of the samples that have rows of all these modalities, and the samples (n,)."""
        return first_rows(self.table, asked)

    def _classify(self, query: Mapping[str, Tensor], sample: Tensor, prompts: Tensor, members: Tensor) -> Asked:
        right = members[sample] & (sample >= 0)[:, None]
        asks = right.any(dim=1).nonzero().flatten()
        how, found = choose(self.terms, query, self.text), []
        for rows in asks.split(CHUNK):
            scores = score({m: x[rows] for m, x in query.items()}, prompts, how, of=self.text, terms=self.terms)
            found.append(ranks(scores, right[rows]) == 1)
        return Asked(torch.cat(found).float() if found else torch.zeros(0), sample[asks])

    def _retrieve(self, query: Mapping[str, Tensor], sample: Tensor, of: str) -> Asked:
        rows, rule = self.table[of], self.space.hit.rule
        asks, answers = sample, rows.sample
        if isinstance(rule, Captions):
            asks, answers, rule = rule.between(list(query), sample, of, rows.sample)
        kept = (asks >= 0).nonzero().flatten()
        how = choose(self.terms, query, of)
        found, counted = [], []
        asking = {m: x[kept] for m, x in query.items()}
        for block, scores in score_blocks(asking, vectors(self.table, of), how, of=of, terms=self.terms):
            hit = rule(asks[kept[block]], answers)
            has = hit.any(dim=1)
            place = ranks(scores[has], hit[has])
            found.append(((place > 0) & (place <= self.k)).float())
            counted.append(sample[kept[block]][has])
        return Asked(torch.cat(found), torch.cat(counted)) if found else Asked(torch.zeros(0), sample[:0])
