"""Scores of a robustness run, with the values of their queries, and the statistics that are no means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.evaluation.robustness.measure import Asked
from align.evaluation.samples import proportion
from align.metrics.intervals import Statistic
from align.values import Scores


def share_kept(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of the first column over that of the second: values (q, 2), weights (draws, q)."""
    altered, clean = (weights @ values.double()).unbind(dim=1)
    return altered / clean


def lowest(values: Tensor, weights: Tensor) -> Tensor:
    """Return the lowest of the columns' means: values (q, c), weights (draws, q)."""
    return ((weights @ values.double()) / weights.sum(dim=1, keepdim=True)).amin(dim=1)


def highest(values: Tensor, weights: Tensor) -> Tensor:
    """Return the highest of the columns' means: values (q, c), weights (draws, q)."""
    return ((weights @ values.double()) / weights.sum(dim=1, keepdim=True)).amax(dim=1)


@final
class Ledger:
    """Scores by name with their samples. All columns of a score are of the same queries."""

    def __init__(self) -> None:
        self.scores: Scores = {}
        self.samples: dict[str, tuple[Tensor, Tensor]] = {}
        self.statistics: dict[str, Statistic] = {}
        self.zero: list[str] = []  # scores without a share kept, since the clean one is 0

    def add(self, name: str, asked: Asked) -> None:
        """Add the share of queries that are right. The interval of a recall is that of retrieval: the bootstrap's."""
        self._add(name, asked.right, asked.sample, proportion if name.endswith("/accuracy") else None)

    def add_spread(self, prefix: str, measure: str, all_: Sequence[Asked]) -> None:
        """Add the mean, the lowest and the highest of several measurements of the same queries."""
        right, sample = torch.stack([one.right for one in all_], dim=1), all_[0].sample  # (q, c)
        self._add(f"{prefix}/mean/{measure}", right.double().mean(dim=1), sample)
        self._add(f"{prefix}/lowest/{measure}", right, sample, lowest)
        self._add(f"{prefix}/highest/{measure}", right.clone(), sample, highest)  # a file holds no tensor twice

    def add_kept(self, prefix: str, measure: str, altered: Sequence[Asked], clean: Asked) -> None:
        """Add the mean of several altered measurements, where there are several, and its share of the clean one."""
        mean = torch.stack([one.right for one in altered], dim=1).double().mean(dim=1)  # (q,)
        if len(altered) > 1:
            self._add(f"{prefix}/mean/{measure}", mean, clean.sample)
        if not clean.right.any():
            self.zero.append(f"{prefix}/retained/{measure}")
            return
        pairs = torch.stack([mean, clean.right.double()], dim=1)  # (q, 2)
        self._add(f"{prefix}/retained/{measure}", pairs, clean.sample, share_kept)

    def _add(self, name: str, values: Tensor, sample: Tensor, statistic: Statistic | None = None) -> None:
        self.samples[name] = (values, sample)
        if statistic is None or statistic is proportion:
            self.scores[name] = float(values.double().mean())
        else:
            self.scores[name] = float(statistic(values, torch.ones(1, len(values), dtype=torch.float64)))
        if statistic is not None:
            self.statistics[name] = statistic
