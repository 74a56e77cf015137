"""WiSE-FT's curve: the scores of (1 - alpha)·θ₀ + alpha·θ₁ between a first and a second model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from align.values import Scores


class Step(NamedTuple):
    """One point of the curve. scores: set of shards -> its scores."""

    alpha: float
    scores: Mapping[str, Scores]


def measure_curve(alphas: Sequence[float], measure: Callable[[Sequence[float]], Mapping[str, Scores]]) -> list[Step]:
    """Return the points of the curve (Wortsman et al. 2022, arXiv:2109.01903, equation 1), in order of alpha.

    measure: gives the scores of the average with these two shares. Raises ValueError for no alpha, and for one that is
    no number from 0 to 1.
    """
    if not alphas or any(not 0 <= alpha <= 1 for alpha in alphas):
        raise ValueError(
            f"alpha is a share of the second model, from 0 to 1; got {', '.join(map(str, alphas)) or 'none'}"
        )
    return [Step(alpha, measure([1 - alpha, alpha])) for alpha in sorted(set(alphas))]


def pick_best(steps: Sequence[Step], value: Callable[[Mapping[str, Scores]], float]) -> Step:
    """Return the point of the highest value. Of equal ones it is the one nearest to the middle, then the lower."""
    return max(steps, key=lambda step: (value(step.scores), -abs(step.alpha - 0.5), -step.alpha))
