"""Scores of many queries against many candidates, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from align.scoring import How, score
from align.values import TermInfo

cells = 1 << 22  # scores held at a time


def score_blocks(
    query: Mapping[str, Tensor], candidates: Tensor, how: How, *, of: str, terms: Sequence[TermInfo] = ()
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows of the query, their scores (rows, c)) until all q queries came.

    query: modality -> (q, D). candidates: (c, D), of the modality ``of``. how, terms: see ``align.score``. Scores are
    computed in float64 and given in float32, so that equal rows tie whatever block they fall into.
    """
    targets = candidates.double()
    total = len(next(iter(query.values())))
    step = max(1, cells // max(1, len(candidates)))
    for start in range(0, total, step):
        rows = slice(start, min(total, start + step))
        part = {m: x[rows].double() for m, x in query.items()}
        yield rows, score(part, targets, how, of=of, terms=terms).float()
