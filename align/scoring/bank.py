"""A bank of queries against candidates, in tiles: the sums that corrections for hubs are made of.

No matrix of all scores stands in memory. Sums are taken in float64 and in an order that each candidate shares, so that
equal candidates get equal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""(bank (b, D), candidates (c, D)) -> their scores (b, c)."""

TILE = 2048  # rows of the bank, and candidates, of a tile
CELLS = 1 << 22  # scores held at a time, where all candidates of some rows are needed


def find_best_mean(bank: Tensor, candidates: Tensor, score: Score, k: int) -> Tensor:
    """Return the mean of the k highest scores that each candidate has with the bank, (c,) float64."""
    means = []
    for columns in candidates.split(TILE):
        best = torch.empty(len(columns), 0)
        for rows in bank.split(TILE):
            best = torch.cat([best, _score(rows, columns, score).T], 1)
            best = best.topk(min(k, best.shape[1]), dim=1).values
        means.append(best.double().mean(1))
    return torch.cat(means)


def sum_exponentials(bank: Tensor, candidates: Tensor, score: Score, sharpness: float) -> Tensor:
    """Return log Σ exp(sharpness · score) over the bank for each candidate, (c,) float64."""
    sums = []
    for columns in candidates.split(TILE):
        total = torch.full((len(columns),), -math.inf, dtype=torch.float64)
        for rows in bank.split(TILE):
            part = (sharpness * _score(rows, columns, score).double()).logsumexp(0)
            total = torch.logaddexp(total, part)
        sums.append(total)
    return torch.cat(sums)


def find_chosen(bank: Tensor, candidates: Tensor, score: Score, k: int) -> Tensor:
    """Return (c,) bool, true for the candidates that are among the best k of a row of the bank.

    All candidates that score as high as the k-th count, so that no order of the candidates matters.
    """
    chosen = torch.zeros(len(candidates), dtype=torch.bool)
    for scores in score_rows(bank, candidates, score):
        least = scores.topk(min(k, scores.shape[1]), dim=1).values[:, -1:]
        chosen |= (scores >= least).any(0)
    return chosen


def balance(
    bank: Tensor, candidates: Tensor, score: Score, sharpness: float, steps: int, tolerance: float = 1e-4
) -> tuple[Tensor, int]:
    """Return v (c,) float64 such that exp(sharpness · score + u + v) has equal sums over rows and over columns.

    They are Sinkhorn's potentials in the log domain, for uniform marginals (Cuturi 2013, arXiv 1306.0895, algorithm 1).
    Each step passes over all scores. Returns also the number of steps: fewer than ``steps`` where no potential moved by
    the tolerance.
    """
    v = torch.zeros(len(candidates), dtype=torch.float64)
    done = 0
    for done in range(1, steps + 1):
        total = torch.full_like(v, -math.inf)
        for scores in score_rows(bank, candidates, score):
            kernel = sharpness * scores.double()
            u = -(kernel + v).logsumexp(1, keepdim=True)  # rows sum to 1
            total = torch.logaddexp(total, (kernel + u).logsumexp(0))
        new = math.log(len(bank) / len(candidates)) - total  # columns sum to b / c
        moved = float((new - v).abs().max())
        v = new
        if moved < tolerance:
            break
    return v, done


def score_rows(bank: Tensor, candidates: Tensor, score: Score) -> Iterator[Tensor]:
    """Yield the scores (rows, c) of some rows of the bank with all candidates, in float32."""
    for rows in bank.split(max(1, CELLS // max(1, len(candidates)))):
        yield torch.cat([_score(rows, columns, score) for columns in candidates.split(TILE)], 1)


def _score(rows: Tensor, columns: Tensor, score: Score) -> Tensor:
    """Return the scores of a tile, computed in float64 and given in float32, so that equal candidates tie."""
    return score(rows.double(), columns.double()).float()
