"""Histograms of the cosines of hits and of all other pairs, on a seeded sample of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import torch
from torch import Tensor

from align.embedding.tables import vectors
from align.evaluation.hits import Captions, Rule
from align.page.section import Histogram
from align.scoring import score
from align.seeds import generator
from align.values import Embeddings

ROWS = 2000  # rows of a modality that are read at most
BINS = 40


def spread(
    embeddings: Embeddings, hits: Rule | Captions, *, seed: int, intra: bool = False, rows: int = ROWS
) -> list[Histogram]:
    """Return a histogram for every two modalities: the cosines of pairs that are hits, and of those that are not.

    At most `rows` rows of each modality are read, those of samples drawn by the seed, so that hits are among them. Hard
    negatives are left out. intra: pairs of a modality with itself too, a row and its copies apart. Two modalities
    without a hit have no histogram.
    """
    order = torch.randperm(embeddings.size, generator=generator("retrieval spread", seed))
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order))  # the place of each sample in the draw
    kept = {m: _draw(embeddings[m].sample, number, rows) for m in sorted(embeddings) if embeddings[m].n}
    pairs = combinations_with_replacement(kept, 2) if intra else combinations(kept, 2)
    found = [_histogram(embeddings, hits, a, b, kept[a], kept[b]) for a, b in pairs]
    return [one for one in found if one is not None]


def _draw(sample: Tensor, number: Tensor, rows: int) -> Tensor:
    """Return the rows of the samples that were drawn first, at most so many, in the order of the draw."""
    real = (sample >= 0).nonzero().flatten()
    return real[number[sample[real]].argsort(stable=True)][:rows]


def _histogram(
    embeddings: Embeddings, hits: Rule | Captions, a: str, b: str, rows_a: Tensor, rows_b: Tensor
) -> Histogram | None:
    asks, answers, rule = embeddings[a].sample, embeddings[b].sample, hits
    if isinstance(rule, Captions):
        asks, answers, rule = rule.between([a], asks, b, answers)
    hit = rule(asks[rows_a], answers[rows_b])
    cosine = score({a: vectors(embeddings, a)[rows_a]}, vectors(embeddings, b)[rows_b])
    counted = torch.ones_like(hit)
    if a == b:
        content = embeddings[a].content
        same = rows_a[:, None] == rows_b
        counted = ~(same if content is None else same | (content[rows_a][:, None] == content[rows_b]))
    groups = {"hits": cosine[hit & counted], "others": cosine[~hit & counted]}
    if any(not len(values) for values in groups.values()):
        return None
    low, high = float(cosine[counted].min()), float(cosine[counted].max())
    edges = torch.linspace(low, max(high, low + 1e-6), BINS + 1)
    return Histogram(f"{a} and {b}", "cosine", edges.tolist(), {name: _shares(x, edges) for name, x in groups.items()})


def _shares(values: Tensor, edges: Tensor) -> Sequence[float]:
    place = torch.bucketize(values, edges[1:-1], right=True)
    return (torch.bincount(place, minlength=len(edges) - 1).double() / len(values)).tolist()
