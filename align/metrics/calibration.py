"""Calibration: how far the confidence of answers is from the share of them that is right."""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 15


def calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Return the expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3), nan of no rows.

    The rows of a bin weigh as many as they are. Bins have equal width, and a confidence at an edge belongs to the lower
    one. confidence: (q,) in [0, 1], of the answer. right: (q,), 1 where the answer is right.
    """
    if confidence.ndim != 1 or right.shape != confidence.shape or bins < 1:
        raise ValueError(
            f"a calibration error takes confidences (q,), right answers (q,) and bins >= 1; got "
            f"{tuple(confidence.shape)}, {tuple(right.shape)} and {bins}"
        )
    values = torch.stack([confidence.double(), right.double()], dim=1)
    return float(weighted_calibration_error(values, torch.ones(1, len(values), dtype=torch.float64), bins))


def weighted_calibration_error(values: Tensor, weights: Tensor, bins: int = BINS) -> Tensor:
    """Return the error under each draw's weights (draws, q), as (draws,). values: (q, 2), confidence and right."""
    confidence, right = values.double().T.contiguous()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(confidence, edges)  # (q,): edge i-1 < confidence <= edge i
    excess = torch.zeros(len(values), bins, dtype=torch.float64).scatter_(
        1, place[:, None], (confidence - right)[:, None]
    )
    return (weights @ excess).abs().sum(dim=1) / weights.sum(dim=1)
