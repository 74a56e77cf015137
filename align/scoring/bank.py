"""A bank of queries against candidates, in tiles: the sums that corrections for hubs are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import final

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""(queries (b, D), candidates (c, D)), both float64 -> their scores (b, c)."""

TILE = 2048  # rows of the bank, and candidates, of a tile
CELLS = 1 << 22  # scores held at a time, where all candidates of some queries are needed


@final
class Bank:
    """Queries of a bank, and the candidates that are corrected by them.

    No matrix of all scores stands in memory, and results are written into one tensor: small ones that are kept between
    large ones would hold the heap open, by 700 MiB at 100,000 candidates. Scores are computed in float64 and rounded to
    float32, so that equal candidates tie, and summed in float64.

    Args:
        queries: (b, D). candidates: (c, D). score: scores float64 rows of both.
        unit: the change of a score by a change of 1 in the cosine, see ``align.scoring.cosine_unit``.

    Raises ValueError for no rows and for rows that are not finite.
    """

    def __init__(self, queries: Tensor, candidates: Tensor, score: Score, unit: float = 1.0):
        for name, rows in (("the bank", queries), ("the candidates", candidates)):
            if rows.ndim != 2 or not len(rows):
                raise ValueError(f"{name} of a correction are rows (n, D), at least one; got {tuple(rows.shape)}")
            if bad := int((~rows.isfinite().all(1)).sum()):
                raise ValueError(f"{bad} of {len(rows)} rows of {name} are not finite; leave them out")
        self.queries, self.candidates, self.score, self.unit = queries, candidates, score, unit
        self._sums: dict[float, Tensor] = {}

    @property
    def size(self) -> int:
        """b, the number of queries."""
        return len(self.queries)

    def find_best_mean(self, k: int) -> Tensor:
        """Return the mean of the k highest scores that each candidate has with the bank, (c,) float64."""
        means = torch.empty(len(self.candidates), dtype=torch.float64)
        for columns, out in zip(self.candidates.split(TILE), means.split(TILE), strict=True):
            best = torch.empty(len(columns), 0)
            for rows in self.queries.split(TILE):
                best = torch.cat([best, self._tile(rows, columns).T], 1)
                best = best.topk(min(k, best.shape[1]), dim=1).values
            out.copy_(best.double().mean(1))
        return means

    def sum_exponentials(self, beta: float) -> Tensor:
        """Return log Σ exp(beta · score) over the bank for each candidate, (c,) float64. It is kept."""
        if beta not in self._sums:
            sums = torch.full((len(self.candidates),), -math.inf, dtype=torch.float64)
            for columns, out in zip(self.candidates.split(TILE), sums.split(TILE), strict=True):
                for rows in self.queries.split(TILE):
                    torch.logaddexp(out, (beta * self._tile(rows, columns).double()).logsumexp(0), out=out)
            self._sums[beta] = sums
        return self._sums[beta]

    def find_chosen(self, k: int) -> Tensor:
        """Return (c,) bool, true for the candidates that are among the best k of a query of the bank.

        All that score as high as the k-th count, so that no order of the candidates matters.
        """
        chosen = torch.zeros(len(self.candidates), dtype=torch.bool)
        for scores in self._rows():
            least = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
            chosen |= (scores >= least).any(0)
        return chosen

    def balance(self, beta: float, steps: int, tolerance: float = 1e-4) -> tuple[Tensor, int]:
        """Return v (c,) float64 with which exp(beta · score + u + v) has equal sums over rows and over columns.

        They are Sinkhorn's potentials in the log domain, for uniform marginals (Cuturi 2013, arXiv 1306.0895,
        algorithm 1). Each step passes over all scores. Returns the number of steps too, which is below ``steps`` where
        no potential moved by the tolerance.
        """
        v = torch.zeros(len(self.candidates), dtype=torch.float64)
        for step in range(1, steps + 1):
            total = torch.full_like(v, -math.inf)
            for scores in self._rows():
                kernel = beta * scores.double()
                kernel -= (kernel + v).logsumexp(1, keepdim=True)  # rows sum to 1
                torch.logaddexp(total, kernel.logsumexp(0), out=total)
            new = math.log(self.size / len(v)) - total  # columns sum to b / c
            moved, v = float((new - v).abs().max()), new
            if moved < tolerance:
                return v, step
        return v, steps

    def _rows(self) -> Iterator[Tensor]:
        """Yield the scores (rows, c) of some queries with all candidates."""
        for rows in self.queries.split(max(1, CELLS // len(self.candidates))):
            yield torch.cat([self._tile(rows, columns) for columns in self.candidates.split(TILE)], 1)

    def _tile(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self.score(rows.double(), columns.double()).float()
