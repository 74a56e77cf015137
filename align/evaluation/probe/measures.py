"""Scores of a probe, as values of its queries and the function that makes the score of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.probe.answers import Answers
from align.evaluation.probe.ridge import Predicted
from align.evaluation.probe.statistics import mean_average_precision, mean_per_class, r_squared, spearman
from align.evaluation.samples import proportion
from align.metrics.intervals import Statistic


class Measures(NamedTuple):
    """Scores of a row: name -> (values (q, …), the function that makes the score of them, None for their mean)."""

    sample: Tensor
    values: dict[str, tuple[Tensor, Statistic | None]]


def of_answers(one: Answers) -> Measures:
    """Return accuracies, or the mean average precision where samples have several classes."""
    if one.logits is not None:
        pairs = torch.stack([one.logits, one.target.float()], dim=1)  # (q, 2, c)
        return Measures(one.sample, {"map": (pairs, mean_average_precision)})
    right = one.right.float()
    values: dict[str, tuple[Tensor, Statistic | None]] = {"accuracy": (right, proportion)}
    values["mean_per_class"] = (torch.stack([right, one.target.float()], dim=1), mean_per_class)
    values |= {f"knn@{k}": (near.float(), proportion) for k, near in one.near.items()}
    values |= {name: (few.float().mean(dim=0), proportion if len(few) == 1 else None) for name, few in one.few.items()}
    return Measures(one.sample, values)


def of_numbers(one: Predicted) -> Measures:
    """Return R², the mean absolute error and the rank correlation of predicted numbers."""
    pairs = torch.stack([one.true, one.told], dim=1)  # (q, 2)
    values: dict[str, tuple[Tensor, Statistic | None]] = {"r2": (pairs, r_squared)}
    values["mae"] = ((one.true - one.told).abs(), None)
    values["spearman"] = (pairs, spearman)
    return Measures(one.sample, values)


def score_of(values: Tensor, statistic: Statistic | None) -> float:
    """Return the score: its statistic at weights of 1, or the mean of the values."""
    if statistic is None or statistic is proportion:
        return float(values.double().mean())
    return float(statistic(values, torch.ones(1, len(values), dtype=torch.float64))[0])
