"""Composed retrieval: a sample and the text of a change ask for the samples that show the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from align.embedding.tables import first_places, vectors
from align.evaluation.composed_file import ComposedQuery, check_keys
from align.evaluation.findings import Findings
from align.evaluation.samples import Intervals
from align.evaluation.space import Space
from align.metrics import hit_places
from align.page.section import Measured, Section, Table
from align.scoring import add_direction, score, weigh_direction
from align.values import Embeddings, Scores

SUBSET = (1, 2, 3)
"""k of the recall in a query's subset, as CIRR has them."""


class Lists(NamedTuple):
    """The gallery of q queries, by sample. skip, hits, subset: (q, B) bool. sample: (q,) of the reference."""

    skip: Tensor
    hits: Tensor
    subset: Tensor
    sample: Tensor


@final
@dataclass(frozen=True)
class Composed:
    """``composed/WAY/recall@k``, ``map@k`` and ``subset_recall@k`` of queries that name a reference and a text.

    The ways to ask are "reference" and "text" alone, "sum" of both cosines, "product" (the multilinear inner product of
    reference, text and candidate) and, where every query that counts has a text ``before``, "direction" (see
    ``align.scoring.add_direction``).

    The protocol is that of CIRR (Liu et al. 2021, arXiv 2108.04024) and CIRCO (Baldrati et al. 2023, arXiv 2303.15247,
    equation 6). The reference is no candidate. recall@k counts a query with a target among its first k. map@k divides
    the precisions at the hits among the first k by min(k, targets). subset_recall@k asks in the query's subset. A
    sample of several rows answers by its best one and asks by its first one. A query whose reference or targets have no
    row does not count, with a note. A tie never helps.

    queries: those of a file, see ``read_composed``. reference, of: the modality that asks, and the one that answers.
    text: the modality of the texts. scale, balance: of the direction.

    ``run`` raises ValueError for no queries, keys that are not those of one sample each, and unknown modalities.
    """

    name = "composed"

    queries: Sequence[ComposedQuery] = ()
    reference: str = "image"
    of: str = "image"
    text: str = "text"
    scale: float = 1.0
    balance: float = 0.5

    def __post_init__(self) -> None:
        weigh_direction(self.scale, self.balance)

    def run(self, space: Space) -> Findings:
        """Return the scores of every way to ask. They are {} where no query counts."""
        table = self._check(space)
        lists, kept, places = list_candidates(table, self.queries, self.reference, self.of)
        notes = []
        if len(kept) < len(self.queries):
            notes.append(
                f"composed: {len(self.queries) - len(kept):,} of {len(self.queries):,} queries do not count: their "
                f"reference has no {self.reference}, or their targets have no {self.of}"
            )
        if not kept:
            return Findings({}, {"notes": notes})
        asked = vectors(table, self.reference)[places].double()
        scores: Scores = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        for way, query in self._ask(space, asked, [self.queries[i] for i in kept]).items():
            how = "mip" if way == "product" else "cosine"
            rows = score(query, vectors(table, self.of).double(), how).float()  # so that equal rows tie
            found = best_rows(rows, table, self.of)
            for metric, values, sample in measure_lists(found, lists, space.ks):
                scores[f"composed/{way}/{metric}"] = float(values.mean())
                samples[f"composed/{way}/{metric}"] = values, sample
        around = space.intervals(samples)
        listed = (~lists.skip).sum(1)
        facts: dict[str, Any] = {
            "queries": len(kept),
            "from": f"{self.reference} + {self.text} to {self.of}",
            "scale": self.scale,
            "balance": self.balance,
            "chance": float((lists.hits.sum(1).double() / listed).mean()),  # expected recall@1 of a blind order
        }
        section = _show(scores, around, facts)
        return Findings(scores, {"composed": facts, "notes": notes}, section, samples, {}, around)

    def _check(self, space: Space) -> Embeddings:
        if not self.queries:
            raise ValueError("composed needs queries: Composed(queries=read_composed(FILE)), --queries FILE")
        for m in (self.reference, self.of, self.text):
            if m not in space.model.modalities:
                raise ValueError(f"composed: no tower for {m!r}; the model has {', '.join(space.model.modalities)}")
        table = space.table()
        check_keys(self.queries, table.ids)
        for m in (self.reference, self.of):
            if m not in table:
                raise ValueError(f"composed: the shards have no {m!r}; there are {', '.join(table.keys())}")
        return table

    def _ask(self, space: Space, rows: Tensor, queries: Sequence[ComposedQuery]) -> dict[str, Mapping[str, Tensor]]:
        """Return way -> the parts of q queries, each (q, D)."""
        texts = self._embed(space, [query.text for query in queries]).to(rows)
        both = {"reference": rows, "change": texts}
        ways: dict[str, Mapping[str, Tensor]] = {
            "reference": {"reference": rows},
            "text": {"change": texts},
            "sum": both,
            "product": both,
        }
        before = [query.before for query in queries if query.before is not None]
        if len(before) == len(queries):
            first = self._embed(space, before).to(rows)
            ways["direction"] = {
                "change": add_direction(rows, first, texts, scale=self.scale, balance=self.balance),
            }
        return ways

    def _embed(self, space: Space, texts: list[str]) -> Tensor:
        """Return (q, D) of the texts, each of which is embedded one time."""
        different = list(dict.fromkeys(texts))
        found = space.model.embed(**{self.text: different})[self.text].cpu()  # pyright: ignore[reportArgumentType]
        return found[[different.index(text) for text in texts]]


def list_candidates(
    table: Embeddings, queries: Sequence[ComposedQuery], reference: str, of: str
) -> tuple[Lists, list[int], Tensor]:
    """Return the lists of the queries that count, their numbers, and the place of each one's row of the reference."""
    number = {key: i for i, key in enumerate(table.ids)}
    places, having = first_places(table, [reference])
    row = dict(zip(having.tolist(), places[reference].tolist(), strict=True))
    absent = torch.ones(table.size, dtype=torch.bool)
    absent[table[of].sample[table[of].sample >= 0]] = False
    kept, skips, hits, subsets = [], [], [], []
    for i, query in enumerate(queries):
        asks = number[query.reference]
        skip = absent.clone()
        skip[asks] = True
        hit = _mark(number, query.targets, table.size) & ~skip
        if asks in row and bool(hit.any()):
            kept.append(i)
            skips.append(skip)
            hits.append(hit)
            subsets.append(_mark(number, query.subset, table.size) & ~skip)
    none = torch.zeros(0, table.size, dtype=torch.bool)
    sample = torch.tensor([number[queries[i].reference] for i in kept], dtype=torch.long)
    skip, hit, subset = (torch.stack(x) if x else none for x in (skips, hits, subsets))
    return Lists(skip, hit, subset, sample), kept, torch.tensor([row[s] for s in sample.tolist()], dtype=torch.long)


def _mark(number: Mapping[str, int], keys: Sequence[str], size: int) -> Tensor:
    marks = torch.zeros(size, dtype=torch.bool)
    marks[[number[key] for key in keys]] = True
    return marks


def best_rows(scores: Tensor, table: Embeddings, of: str) -> Tensor:
    """Return (q, B), the best score of each sample's rows from those of all rows (q, c), -inf without a row."""
    sample = table[of].sample
    at = sample[sample >= 0].expand(len(scores), -1)
    best = scores.new_full((len(scores), table.size), -torch.inf)
    return best.scatter_reduce(1, at, scores[:, sample >= 0], "amax")


def measure_lists(scores: Tensor, lists: Lists, ks: Sequence[int]) -> list[tuple[str, Tensor, Tensor]]:
    """Return (metric, values (q,), samples (q,)) of each metric. Queries without a subset do not count in it."""
    out = []
    found = hit_places(scores.masked_fill(lists.skip, -torch.inf), lists.hits, lists.skip)
    for k in ks:
        out.append((f"recall@{k}", _is_within(found.rank, k), lists.sample))
    for k in ks:
        near = found.place <= k
        gain = torch.zeros(len(scores), dtype=torch.float64)
        gain.index_add_(0, found.row[near], found.number[near] / found.place[near].double())
        out.append((f"map@{k}", gain / found.hits.clamp(max=k), lists.sample))
    asks = (lists.subset & lists.hits).any(1)
    if bool(asks.any()):
        skip = ~lists.subset[asks]
        hits = lists.hits[asks] & ~skip
        rank = hit_places(scores[asks].masked_fill(skip, -torch.inf), hits, skip).rank
        out += [(f"subset_recall@{k}", _is_within(rank, k), lists.sample[asks]) for k in SUBSET]
    return out


def _is_within(rank: Tensor, k: int) -> Tensor:
    return ((rank >= 1) & (rank <= k)).double()


def _show(scores: Scores, around: Intervals, facts: Mapping[str, Any]) -> Section:
    """Return the section: a row for each way to ask."""
    ways = list(dict.fromkeys(name.split("/")[1] for name in scores))
    metrics = list(dict.fromkeys(name.split("/")[2] for name in scores))
    rows = []
    for way in ways:
        keys = [f"composed/{way}/{metric}" for metric in metrics]
        rows.append([way, *(Measured(scores[key], around.get(key)) if key in scores else "" for key in keys)])
    note = f"{facts['queries']:,} queries, {facts['from']}. The reference is no candidate."
    return Section("Composed retrieval", note, [Table(["asked by", *metrics], rows)])
