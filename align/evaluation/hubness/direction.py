"""One direction of retrieval with and without repairs: its ranks, and how often each candidate occurs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.hits import Captions, Rule
from align.evaluation.samples import LEVEL, Intervals, Samples, Statistics, proportion
from align.metrics import (
    antihub_share,
    count_occurrences,
    find_nearest,
    hub_share,
    ranks,
    recall_at,
    robin_hood,
    skewness,
)
from align.metrics.intervals import Statistic, draw_weights, percentiles
from align.scoring import Correction, correct
from align.seeds import generator
from align.values import Embeddings, Scores

SHAPES = {"skewness": skewness, "hubs": hub_share, "robin_hood": robin_hood}
"""Name of a score -> its statistic of the counts."""


class Measured(NamedTuple):
    """One variant of a direction: rank and row (q,) of the queries that have a hit, counts (c,) of each candidate."""

    rank: Tensor
    row: Tensor
    counts: Tensor


def measure(
    table: Embeddings,
    query: str,
    of: str,
    blocks: Iterable[tuple[slice, Tensor]],
    hits: Rule | Captions,
    corrections: Mapping[str, Correction],
    k: int,
) -> dict[str, Measured]:
    """Return variant -> its measures: "" for the scores as they are, and each correction.

    blocks: rows of the query with their scores, see ``Space.scores``. A hard negative does not ask.
    """
    asking, answers = table[query].sample, table[of].sample
    asks, same = asking, hits
    if isinstance(same, Captions):
        asks, answers, same = same.between([query], asking, of, answers)
    variants: dict[str, Correction | None] = {"": None, **corrections}
    # Written in place: small tensors that stay would pin the heap between the large ones of the blocks.
    rank = {name: torch.zeros(len(asking), dtype=torch.long) for name in variants}
    counts = {name: torch.zeros(len(answers), dtype=torch.long) for name in variants}
    found = torch.zeros(len(asking), dtype=torch.bool)  # queries with a hit
    for block, scores in blocks:
        kept = asking[block] >= 0
        if not bool(kept.all()):
            scores = scores[kept]
        places = torch.arange(block.start, block.stop)[kept]
        hit = same(asks[places], answers)
        has = hit.any(dim=1)
        found[places] = has
        for name, correction in variants.items():
            now = scores if correction is None else correct(scores, correction)
            counts[name] += count_occurrences(find_nearest(now, k), len(answers))
            rank[name][places] = torch.where(has, ranks(now, hit), 0)
    return {name: Measured(rank[name][found], asking[found], counts[name]) for name in variants}


def score_variant(one: Measured, owner: Tensor, prefix: str, ks: Sequence[int]) -> tuple[Scores, Samples, Statistics]:
    """Return the scores of one variant, the values of which they are made, and how.

    owner: (c,) the sample of each candidate. prefix: of the names, with a slash at its end.
    """
    scores = {f"{prefix}{name}": float(shape(one.counts)) for name, shape in SHAPES.items()}
    samples = {name: (one.counts.int(), owner) for name in scores}  # one tensor each, as a file of samples needs
    statistics: dict[str, Statistic] = {f"{prefix}{name}": shape for name, shape in SHAPES.items()}
    scores[name := f"{prefix}antihubs"] = float(antihub_share(one.counts))
    samples[name], statistics[name] = ((one.counts == 0).float(), owner), proportion
    if len(one.rank):
        for k in ks:
            scores[name := f"{prefix}recall@{k}"] = recall_at(one.rank, k)
            samples[name] = (((one.rank > 0) & (one.rank <= k)).float(), one.row)
    return scores, samples, statistics


def bound_shapes(found: Mapping[str, Measured], owner: Tensor, *, draws: int, seed: int) -> dict[str, Intervals]:
    """Return variant -> score -> its interval, for the scores of ``SHAPES``.

    They are those of ``samples.intervals``. All variants share its draws, which cost more than the statistics.
    """
    parts: dict[tuple[str, str], list[Tensor]] = {}
    for weights in draw_weights(owner, draws, generator("bootstrap", seed)):
        for variant, one in found.items():
            for name, shape in SHAPES.items():
                parts.setdefault((variant, name), []).append(shape(one.counts, weights))
    out: dict[str, Intervals] = {variant: {} for variant in found}
    for (variant, name), values in parts.items():
        out[variant][name] = percentiles(torch.cat(values), LEVEL)
    return out
