"""Draws dealt to sources by weight: after any number of draws each source has its share to within one draw.

R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980): for shares p_s and counts c_s(x) after x
draws, |c_s(x) - p_s x| < 1 for every x and every source. With whole weights the deal repeats after their sum, so a
count is one look into a table and no draw is ever replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd, inf, lcm
from typing import final

import numpy as np

MOST = 1 << 14  # parts: the longest table


def parts(weights: Sequence[float]) -> list[int]:
    """Return the weights as the smallest whole numbers of the same ratio.

    Where these sum to more than MOST (p proportional to n^0.3 has no short ratio), the nearest ones that sum to MOST: a
    share is then off by at most 1/MOST, and a positive weight keeps at least one part. Raises ValueError for weights
    that are negative, not finite or all zero.
    """
    if not all(0 <= w < inf for w in weights) or not any(weights):
        raise ValueError(f"weights are numbers from 0 up, and at least one is positive; got {list(weights)}")
    exact = [Fraction(repr(w)) for w in weights]
    scale = lcm(*(f.denominator for f in exact))
    whole = [int(f * scale) for f in exact]
    whole = [w // gcd(*whole) for w in whole]
    if sum(whole) <= MOST:
        return whole
    total = sum(exact)
    shares = [f * MOST / total for f in exact]
    near = [max(int(share), 1 if share else 0) for share in shares]
    while sum(near) != MOST:  # by one part a source at most: large remainders get one, or give one
        step = 1 if sum(near) < MOST else -1
        s = max(range(len(near)), key=lambda s: step * (shares[s] - near[s]) if step > 0 or near[s] > 1 else -inf)
        near[s] += step
    return near


@final
class Deal:
    """The source of each draw, and counts of earlier draws. Costs O(sum of parts) to make, O(1) a question.

    Args:
        parts: whole weights, as ``parts`` makes them. A source of weight 0 never gets a draw.
    """

    def __init__(self, parts: Sequence[int]):
        self.parts = list(parts)
        self.period = sum(self.parts)
        self.table = np.array(_assignment(self.parts), dtype=np.int64)  # (period,) source of each draw
        goes_to = self.table[:, None] == np.arange(len(self.parts))
        self._prefix = np.concatenate([np.zeros((1, len(self.parts)), np.int64), np.cumsum(goes_to, axis=0)])
        self._columns = self._prefix.T.tolist()  # for single questions: ten times as fast as an array

    def before(self, draws: int | np.ndarray) -> np.ndarray:
        """Return (..., sources) int64: the number of the first ``draws`` that each source has."""
        whole, rest = np.divmod(np.asarray(draws, dtype=np.int64), self.period)
        return whole[..., None] * np.array(self.parts, dtype=np.int64) + self._prefix[rest]

    def count(self, source: int, draws: int) -> int:
        """Return the number of the first ``draws`` that one source has."""
        whole, rest = divmod(draws, self.period)
        return whole * self.parts[source] + self._columns[source][rest]

    def largest(self, draws: int) -> np.ndarray:
        """Return (sources,) the most draws that each source has in one step, of steps of ``draws`` laid end to end."""
        starts = np.arange(self.period // gcd(self.period, draws), dtype=np.int64) * draws
        return (self.before(starts + draws) - self.before(starts)).max(axis=0)


def _assignment(parts: Sequence[int]) -> list[int]:
    """Return the source of each draw in a period.

    Each draw goes to the source that must be served soonest, of those at least 1/(2S - 2) behind their share.
    """
    total, bound = sum(parts), max(1, 2 * sum(1 for w in parts if w) - 2)
    had, out = [0] * len(parts), []
    for n in range(1, total + 1):
        behind = [bound * (w * n - c * total) for w, c in zip(parts, had, strict=True)]
        able = [s for s, b in enumerate(behind) if parts[s] and b >= total]
        chosen = min(able, key=lambda s: (((bound - 1) * total - behind[s]) / parts[s], s))
        had[chosen] += 1
        out.append(chosen)
    return out


def by_size(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Return weights proportional to n^alpha. 1 mixes as one large set, 0 treats the sources alike.

    Between 0 and 1 small sources count more than their size.

    Conneau and Lample, "Cross-lingual language model pretraining" (2019), section 3.1.
    """
    return {name: float(n) ** alpha if n else 0.0 for name, n in sizes.items()}
