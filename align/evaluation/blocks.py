"""Scores of many queries against many candidates, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from align.scoring import How, score
from align.values import TermInfo

cells = 1 << 24  # scores of a block
ROWS = 1024  # queries of a block at most
TILE = 2048  # candidates that are scored at a time


def score_blocks(
    query: Mapping[str, Tensor],
    candidates: Tensor | Sequence[Tensor],
    how: How,
    *,
    of: str,
    terms: Sequence[TermInfo] = (),
    rows: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows of the query, their scores (rows, c)) until all q queries came.

    query: modality -> (q, D). candidates: (c, D), of the modality ``of``, or several tables that follow one another.
    how, terms: see ``align.score``. rows: modality -> (q,), the rows of its table (n, D) that ask, for queries that are
    not all rows in their order.

    Scores are computed in float64 and given in float32, so that equal rows tie whatever block they fall into. Beside
    its arguments it holds one block of scores in float32, and a tile of candidates with its scores in float64.
    """
    tables = [candidates] if isinstance(candidates, Tensor) else candidates
    tiles = [part for table in tables for part in table.split(TILE)]  # views
    c = sum(map(len, tables))
    total = len(next(iter((query if rows is None else rows).values())))
    step = min(ROWS, max(1, cells // max(1, c)))
    for start in range(0, total, step):
        block = slice(start, min(total, start + step))
        part = {m: (x[block] if rows is None else x[rows[m][block]]).double() for m, x in query.items()}
        out = torch.empty(block.stop - block.start, c)
        at = 0
        for tile in tiles:
            out[:, at : at + len(tile)] = score(part, tile.double(), how, of=of, terms=terms)
            at += len(tile)
        yield block, out
