"""Rules that choose hard negatives among the near rows of a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from align.seeds import derive

Sampling = Literal["nearest", "random"]


@final
@dataclass(frozen=True)
class Rules:
    """Windows of ranks and of scores, with the options of ``mine_hard_negatives`` of Sentence Transformers.

    Args:
        ranks: (low, high). The ``low`` nearest candidates are passed over, and those after the ``high``-th too.
        margin: a negative's cosine is lower by at least this than that of the sample's own row. None: no margin.
        relative_margin: it is at most (1 - relative_margin) times that of the own row. None: no margin.
        max_score, min_score: bounds of the cosine. None: no bound.
        count: negatives of a sample at most.
        sampling: "nearest" or "random" rows of the window.
        seed: of random sampling. The draw depends on it and on the sample's key.

    Raises ValueError for numbers out of order.
    """

    ranks: tuple[int, int] = (0, 100)
    margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    count: int = 5
    sampling: Sampling = "nearest"
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.ranks
        if not 0 <= low < high:
            raise ValueError(f"ranks are LOW:HIGH with 0 <= LOW < HIGH, as in 10:50; got {low}:{high}")
        if self.count < 1:
            raise ValueError(f"count is a number of negatives, at least 1; got {self.count}")
        for name in ("margin", "relative_margin", "max_score", "min_score"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} is a finite number; got {value}")
        if self.sampling not in ("nearest", "random"):
            raise ValueError(f"sampling is 'nearest' or 'random'; got {self.sampling!r}")

    def limit(self, positive: float) -> float:
        """Return the largest cosine of a negative, if the sample's own row has the cosine ``positive``."""
        bounds = [math.inf if self.max_score is None else self.max_score]
        if self.margin is not None:
            bounds.append(positive - self.margin)
        if self.relative_margin is not None:
            bounds.append(positive - self.relative_margin * abs(positive))
        return min(bounds)

    def choose(
        self, rows: np.ndarray, scores: np.ndarray, positive: float, contents: Sequence[int], key: str
    ) -> list[int]:
        """Return the places of the negatives among the near rows, in order. Of rows with equal content one is taken.

        rows: (K,) near rows of the pool, the nearest first, -1 where there are no more. scores: (K,) their cosines.
        positive: the cosine of the sample's own row. contents: of each row of the pool. key: of the sample.
        """
        low, high = self.ranks
        least, most = -math.inf if self.min_score is None else self.min_score, self.limit(positive)
        found: list[int] = []
        seen: set[int] = set()
        for place in range(low, min(high, len(rows))):
            if rows[place] < 0 or not least <= scores[place] <= most or contents[rows[place]] in seen:
                continue
            seen.add(contents[rows[place]])
            found.append(place)
        if self.sampling == "random" and len(found) > self.count:
            draws = np.random.default_rng(derive(self.seed, "mine", key))
            found = sorted(draws.choice(found, self.count, replace=False).tolist())
        return found[: self.count]
