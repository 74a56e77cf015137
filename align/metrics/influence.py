"""Average precision, AUROC and sensitivity as means over rows: each row's value, by its influence on the score.

The bootstrap of such a mean is that of the score to the first order (the infinitesimal jackknife: Jaeckel 1972; Efron
and Tibshirani 1993, section 22.6). It takes one sort a class, where the bootstrap takes a pass a draw.

Each function takes ``count_above`` of the rows' scores and the positives (q,) bool, and returns (q,) float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from align.metrics.binary import Counts, precision_area, roc_area, sensitivity_of

Influence = Callable[[Counts, Tensor], Tensor]


def precision_influence(counts: Counts, positive: Tensor) -> Tensor:
    """Return values whose mean is the average precision AP: AP + q dAP/dw for each row's weight w.

    AP is the sum over thresholds t of gain(t) precision(t) / P. A positive at s has its weight in gain(s) and in P.
    Each row has it in the precision of s and of the thresholds below it, which changes by (positive - precision) / n.
    """
    right, n = counts.positive[:, 0], (counts.positive + counts.negative)[:, 0]  # (t,), the highest threshold first
    gain, precision = right.diff(prepend=right.new_zeros(1)), right / n
    area, total, place = precision_area(counts)[0], right[-1], counts.place
    lower = _sum_below(gain / n)[place]
    lower_precision = _sum_below(gain * precision / n)[place]
    slope = torch.where(positive, precision[place] - area + lower, 0) - lower_precision
    return area + len(positive) * slope / total


def roc_influence(counts: Counts, positive: Tensor) -> Tensor:
    """Return values whose mean is the AUROC, by the placements of DeLong, DeLong and Clarke-Pearson 1988."""
    area, place = roc_area(counts)[0], counts.place
    right, wrong = counts.positive[:, 0], counts.negative[:, 0]
    zero = right.new_zeros(1)
    higher_right = right - right.diff(prepend=zero) / 2  # (t,) positives above, with half of the equal ones
    higher_wrong = wrong - wrong.diff(prepend=zero) / 2
    of_positive = (1 - higher_wrong[place] / wrong[-1] - area) / right[-1]
    of_negative = (higher_right[place] / right[-1] - area) / wrong[-1]
    return area + len(positive) * torch.where(positive, of_positive, of_negative)


def sensitivity_influence(specificity: float) -> Influence:
    """Return the function of values whose mean is ``sensitivity_of(specificity)``, at the threshold of these rows.

    The threshold is taken as given: its own uncertainty is not in the values.
    """
    measure = sensitivity_of(specificity)

    def values(counts: Counts, positive: Tensor) -> Tensor:
        sensitivity = measure(counts)[0]
        right = counts.positive[:, 0]
        found = positive & (right[counts.place] <= sensitivity * right[-1] + 0.5)  # whole numbers, to the last bit
        return sensitivity + len(positive) * torch.where(positive, found.double() - sensitivity, 0) / right[-1]

    return values


def _sum_below(x: Tensor) -> Tensor:
    """Return for each threshold the sum of x (t,) over it and all lower ones."""
    return x.flip(0).cumsum(0).flip(0)
