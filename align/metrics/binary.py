"""Average precision, AUROC and sensitivity at a specificity, of scores for one class against the rest.

Ties are as scikit-learn has them: rows of equal scores are taken together. Of a constant score the average precision is
the share of positives, and the AUROC is 1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 1 << 20  # weights of a class taken at a time, which the processor's cache holds in part


class Counts(NamedTuple):
    """Weights of the rows above each threshold, the highest first: of positives and of negatives, both (t, draws).

    place: (q,) int64, the threshold that each row's score is.
    """

    positive: Tensor
    negative: Tensor
    place: Tensor


Measure = Callable[[Counts], Tensor]
"""Counts -> (draws,). It is nan of a draw that does not have the classes that it needs."""


def count_above(scores: Tensor, positive: Tensor, weights: Tensor | None = None) -> Counts:
    """Return the counts at each of the t distinct scores, by one sort.

    scores: (q,). positive: (q,) bool. weights: (q, draws) float64, by default one draw of 1. Raises ValueError for
    shapes that disagree, and for a score that is NaN.
    """
    if scores.ndim != 1 or positive.shape != scores.shape or positive.dtype != torch.bool:
        raise ValueError(
            f"a class against the rest takes scores (q,) and bool positives (q,); got {tuple(scores.shape)} and "
            f"{tuple(positive.shape)} of {positive.dtype}"
        )
    if bool(scores.isnan().any()):
        raise ValueError("a score is NaN: it has no place among the others")
    ordered, order = scores.sort(descending=True)
    ends = torch.ones(len(ordered), dtype=torch.bool)
    ends[:-1] = ordered[1:] != ordered[:-1]  # the last row of each run of equal scores
    place = torch.empty_like(order).scatter_(0, order, ends.long().cumsum(0) - ends.long())
    drawn = torch.ones(len(scores), 1, dtype=torch.float64) if weights is None else weights[order]  # (q, draws)
    every = drawn.cumsum(dim=0)
    right = drawn.mul_(positive[order][:, None]).cumsum(dim=0)
    if not bool(ends.all()):
        every, right = every[ends], right[ends]
    return Counts(right, every.sub_(right), place)


def precision_area(counts: Counts) -> Tensor:
    """Return the average precision: the sum over thresholds of precision times the gain in recall.

    nan without a positive.
    """
    gain = counts.positive.diff(dim=0, prepend=torch.zeros_like(counts.positive[:1]))
    above = (counts.positive + counts.negative).clamp_(min=torch.finfo(torch.float64).tiny)
    return gain.mul_(counts.positive).div_(above).sum(dim=0) / _total(counts.positive)


def roc_area(counts: Counts) -> Tensor:
    """Return the area under the ROC curve, by trapezoids. nan without a positive or a negative."""
    start = torch.zeros_like(counts.positive[:1])
    step = counts.negative.diff(dim=0, prepend=start)
    height = counts.positive + torch.cat([start, counts.positive[:-1]])
    return step.mul_(height).sum(dim=0) / (2 * _total(counts.positive) * _total(counts.negative))


def sensitivity_of(specificity: float) -> Measure:
    """Return the measure: the highest sensitivity of the thresholds whose specificity is at least this.

    A row is called positive where its score is the threshold or more. Where no threshold has the specificity, nothing
    is called positive, and the sensitivity is 0. nan without a positive or a negative. Raises ValueError for a
    specificity outside (0, 1).
    """
    check_specificity(specificity)

    def measure(counts: Counts) -> Tensor:
        negatives = _total(counts.negative)
        allowed = (negatives - counts.negative) / negatives >= specificity  # (t, draws)
        found = torch.where(allowed, counts.positive, 0).amax(dim=0) if len(counts.positive) else negatives
        return torch.where(negatives.isnan(), torch.nan, found / _total(counts.positive))

    return measure


def check_specificity(specificity: float) -> None:
    """Raise ValueError for a specificity outside (0, 1)."""
    if not 0 < specificity < 1:
        raise ValueError(f"a specificity lies between 0 and 1, such as 0.9; got {specificity:g}")


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Return the average precision of scores (q,) for positives (q,) bool, nan without a positive.

    >>> average_precision(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([True, False, True]))
    0.8333333333333333
    """
    return float(precision_area(count_above(scores, positive)))


def auroc(scores: Tensor, positive: Tensor) -> float:
    """Return the share of (positive, negative) pairs in order, of which a tie counts half (Fawcett 2006, section 7).

    scores: (q,). positive: (q,) bool. nan without a positive or a negative.
    """
    return float(roc_area(count_above(scores, positive)))


def sensitivity_at(scores: Tensor, positive: Tensor, specificity: float) -> float:
    """Return the highest sensitivity whose specificity is at least this, see ``sensitivity_of``. scores: (q,)."""
    return float(sensitivity_of(specificity)(count_above(scores, positive)))


def macro(measure: Measure) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the statistic of a mean over classes, for a bootstrap: (values (q, 2, C), weights (draws, q)) -> (draws,).

    values: the scores of C classes, and 1 where a row has the class. A class without a positive, or without a negative
    that the measure needs, is left out of its draw.
    """

    def statistic(values: Tensor, weights: Tensor) -> Tensor:
        step = max(1, CELLS // max(1, len(values)))
        found = [
            torch.stack([measure(count_above(x, positive > 0, some)) for x, positive in values.permute(2, 1, 0)])
            for some in (part.T.contiguous() for part in weights.split(step))
        ]  # of some draws at a time, each (C, draws)
        return torch.cat(found, dim=1).nanmean(dim=0)

    return statistic


def _total(counts: Tensor) -> Tensor:
    """Return the weight of all rows (draws,), nan where there is none."""
    total = counts[-1] if len(counts) else counts.sum(dim=0)
    return torch.where(total > 0, total, torch.nan)
