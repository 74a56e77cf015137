"""A threshold of scores, chosen on labelled shards for a stated precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.scoring import How, score
from align.search.parts import Part
from align.values import Embeddings, TermInfo

cells = 1 << 22  # scores held at a time


class Threshold(NamedTuple):
    """A least score. precision, recall: of the pairs that reach it. n: the number of these pairs."""

    value: float
    precision: float
    recall: float
    n: int


Scored = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Yields blocks of scores (q, c) with their hits (q, c) bool. It is called twice."""


def calibrate(
    embeddings: Embeddings,
    hits: Callable[[Tensor, Tensor], Tensor],
    query: Sequence[str],
    of: str,
    precision: float,
    *,
    how: How,
    terms: Sequence[TermInfo] = (),
) -> Threshold:
    """Return the least score of samples of labelled shards whose precision is at least the stated one.

    Each sample's rows of the query's modality ask among all samples by their best row of ``of``, as in a search. Of
    several modalities, the first row of each asks. A sample is not asked for itself by its own row of ``of``. The
    precision holds for a search among as many wrong candidates for each right one.

    Args:
        embeddings: of the shards, see ``align.embedding.embed_shards``.
        hits: a hit rule, as ``align evaluate`` has them: samples (q,) and (c,) -> (q, c) bool.
        how, terms: see ``align.score``.

    Raises ValueError where the shards lack a modality, and as ``choose_threshold`` does.
    """
    from align.embedding.tables import first_rows, vectors  # not needed by a search

    targets, owner = vectors(embeddings, of).double(), embeddings[of].sample
    order = owner.argsort(stable=True)
    order = order[owner[order] >= 0]  # hard negatives belong to no sample
    targets, (samples, place) = targets[order], owner[order].unique_consecutive(return_inverse=True)
    if len(query) == 1:
        asks, asking = {query[0]: vectors(embeddings, query[0])}, embeddings[query[0]].sample
    else:
        asks, asking = first_rows(embeddings, query)
    kept = asking >= 0
    asks, asking = {m: x[kept].double() for m, x in asks.items()}, asking[kept]
    step = max(1, cells // max(1, len(targets)))

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(asking), step):
            rows = slice(start, start + step)
            found = score({m: x[rows] for m, x in asks.items()}, targets, how, of=of, terms=terms).float()
            best = found.new_full((len(found), len(samples)), -torch.inf)
            best.scatter_reduce_(1, place.expand(len(found), -1), found, "amax")
            if of in query:
                best[asking[rows, None] == samples] = -torch.inf
            yield best, hits(asking[rows], samples)

    return choose_threshold(blocks, precision)


def choose_threshold(blocks: Scored, precision: float) -> Threshold:
    """Return the least score whose precision is at least the stated one.

    All pairs of a query and a candidate count together: precision is the share of hits among the pairs that reach the
    score, and recall is the share of the hits that reach it. Pairs of equal score stand or fall together. A pair with
    score -inf does not count.

    Only the best wrong pairs can stand above such a score, and no more of them are kept: memory grows with the number
    of hits. Raises ValueError for a precision outside of 0..1 and where no score reaches it, with the best.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"a precision is above 0 and at most 1, got {precision}")
    total = sum(int((hit & (scores > -torch.inf)).sum()) for scores, hit in blocks())
    if not total:
        raise ValueError("no pair of a query and a candidate is a hit, so no threshold can be chosen")
    most = int(total * (1 - precision) / precision) + 2  # more wrong pairs than that leave too small a share
    right, wrong = [torch.empty(0)], torch.empty(0)
    for scores, hit in blocks():
        valid = scores > -torch.inf
        right.append(scores[hit & valid].float())
        wrong = torch.cat([wrong, scores[~hit & valid].float()])
        wrong = wrong.topk(min(most, len(wrong))).values
    good, bad = torch.cat(right).sort(descending=True).values, wrong.sort(descending=True).values
    values = torch.cat([good, bad]).unique()  # ascending
    hits = len(good) - torch.searchsorted(good.flip(0), values)
    others = len(bad) - torch.searchsorted(bad.flip(0), values)
    share = hits.double() / (hits + others)
    possible = (hits > 0) & ((share >= precision - 1e-12) & ~((len(bad) == most) & (others >= most)))
    if not bool(possible.any()):
        best = int(share.argmax())
        raise ValueError(
            f"no score has precision {precision:g}: the best is {share[best]:.3f} at a score of {values[best]:.4g}"
        )
    at = int(possible.nonzero()[0])
    return Threshold(float(values[at]), float(share[at]), int(hits[at]) / len(good), int(hits[at] + others[at]))


def name_threshold(query: Iterable[str], of: str, how: str) -> str:
    """Return the name under which an index keeps a threshold: "audio+text_to_image/cosine"."""
    return f"{'+'.join(sorted(query))}_to_{of}/{how}"


def find_calibrated(about: Mapping[str, Any], parts: Sequence[Part], of: str, how: str) -> float:
    """Return the threshold that the index keeps for such a query.

    Raises ValueError where it keeps none, and for a query with other weights than 1 or two parts of one modality,
    whose scores are of another size.
    """
    asked = [part for part in parts if part.weight]
    if any(part.weight != 1 for part in asked) or len({part.modality for part in asked}) < len(asked):
        raise ValueError("a calibrated threshold is for parts of weight 1, one a modality; state a number instead")
    name, kept = name_threshold([part.modality for part in asked], of, how), about.get("threshold") or {}
    if name not in kept:
        raise ValueError(
            f"the index keeps no threshold for {name}; it keeps {', '.join(kept) or 'none'}. "
            "Choose one with: align search INDEX --calibrate SHARDS --precision 0.9"
        )
    return float(kept[name]["value"])
