"""The greedy soup: a model comes in where the score on held-out shards does not fall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Trial(NamedTuple):
    """Trial of a model, by its place. alone: its score. together: the soup's with it. taken: True where it came in."""

    model: int
    alone: float
    together: float
    taken: bool


def choose_greedily(n: int, measure: Callable[[Sequence[float]], float]) -> tuple[list[float], list[Trial]]:
    """Return the share of each of n models, and the trials (Wortsman et al. 2022, arXiv:2203.05482, recipe 1).

    The models are tried from the best alone to the worst, equals in the order in which they are given. A model comes in
    where the average of those taken and of it scores at least as high as the average of those taken.

    measure: gives the held-out score of the average with these n shares.
    """
    alone = [measure([float(i == j) for j in range(n)]) for i in range(n)]
    order = sorted(range(n), key=lambda i: -alone[i])
    taken, best = [order[0]], alone[order[0]]
    trials = [Trial(order[0], alone[order[0]], alone[order[0]], True)]
    for i in order[1:]:
        score = measure(_shares(n, [*taken, i]))
        if score >= best:
            taken, best = [*taken, i], score
        trials.append(Trial(i, alone[i], score, i in taken))
    return _shares(n, taken), trials


def _shares(n: int, taken: Sequence[int]) -> list[float]:
    return [1 / len(taken) if i in taken else 0.0 for i in range(n)]
