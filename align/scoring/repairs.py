"""Repairs of hubness: each makes a correction from a bank of training queries.

A hub is a candidate that many queries find near, whatever they ask. Its scores with a bank of queries tell so before a
test query comes. ``unit`` is the score's unit: the change of a score by a change of 1 in the cosine. ``sharpness`` is
of the cosine, so a model's scale changes no order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from align.scoring.bank import Score, balance, find_best_mean, find_chosen, sum_exponentials
from align.scoring.correction import Correction

SHARPNESS = 20.0
"""Inverse temperature of the softmaxes, of the cosine: that of QB-Norm (section 4.1 there)."""


def nnn(bank: Tensor, candidates: Tensor, score: Score, *, k: int = 128, alpha: float = 0.75) -> Correction:
    """Return Nearest Neighbor Normalization (Chowdhury et al. 2024, arXiv 2410.24114, equations 2 and 3).

    A candidate's number is alpha times the mean of its k highest scores with the bank. bank: (b, D). candidates:
    (c, D). A bank of fewer than k rows counts whole. Raises ValueError for an empty bank, rows that are not finite, and
    a k below 1.
    """
    _check(bank, candidates)
    if k < 1:
        raise ValueError(f"the k of NNN is at least 1; got {k}")
    shift = alpha * find_best_mean(bank, candidates, score, k)
    return Correction("nnn", shift.float(), settings={"k": min(k, len(bank)), "alpha": alpha, "bank": len(bank)})


def inverted_softmax(
    bank: Tensor, candidates: Tensor, score: Score, *, sharpness: float = SHARPNESS, unit: float = 1.0
) -> Correction:
    """Return the inverted softmax (Smith et al. 2017, arXiv 1702.03859, equation 9), in the log domain.

    exp(β s) / Σ exp(β s') over the bank orders candidates as s - log(Σ exp(β s')) / β does. Raises ValueError as
    ``nnn`` does, and for a sharpness of 0 or below.
    """
    _check(bank, candidates, sharpness)
    beta = sharpness / unit
    shift = sum_exponentials(bank, candidates, score, beta) / beta
    return Correction("inverted_softmax", shift.float(), settings={"sharpness": sharpness, "bank": len(bank)})


def qb_norm(
    bank: Tensor, candidates: Tensor, score: Score, *, sharpness: float = SHARPNESS, unit: float = 1.0, k: int = 1
) -> Correction:
    """Return QB-Norm's dynamic inverted softmax (Bogolin et al. 2022, arXiv 2112.12777, equations 4 and 5).

    The inverted softmax counts for a query whose best candidate is in the activation set: the candidates that are among
    the best k of a query of the bank. Raises ValueError as ``inverted_softmax`` does.
    """
    inner = inverted_softmax(bank, candidates, score, sharpness=sharpness, unit=unit)
    active = find_chosen(bank, candidates, score, k)
    return Correction("qb_norm", inner.shift, active, {**inner.settings, "k": k, "active": int(active.sum())})


def dual_bank(
    bank: Tensor,
    candidates: Tensor,
    score: Score,
    gallery: Tensor,
    *,
    sharpness: float = SHARPNESS,
    unit: float = 1.0,
) -> Correction:
    """Return DBNorm's dual inverted softmax (Wang et al. 2023, arXiv 2310.11612, section 3.3).

    It is the product of two inverted softmaxes, over the bank of queries and over a bank of the candidates' modality.
    Both have the sharpness β, so it orders candidates as s - (log Σ exp(β s') + log Σ exp(β s'')) / 2β does.

    gallery: (g, D) rows of the candidates' modality, which are compared with the candidates by their cosine. Raises
    ValueError as ``inverted_softmax`` does.
    """
    _check(bank, candidates, sharpness)
    _check(gallery, candidates)
    queries = sum_exponentials(bank, candidates, score, sharpness / unit)
    alike = sum_exponentials(gallery, candidates, _cosines, sharpness)
    shift = unit * (queries + alike) / (2 * sharpness)
    settings = {"sharpness": sharpness, "bank": len(bank), "gallery bank": len(gallery)}
    return Correction("dual_bank", shift.float(), settings=settings)


def sinkhorn(
    bank: Tensor,
    candidates: Tensor,
    score: Score,
    *,
    sharpness: float = SHARPNESS,
    unit: float = 1.0,
    steps: int = 10,
) -> Correction:
    """Return the correction by Sinkhorn's potentials (Cuturi 2013, and Pan et al. 2025, arXiv 2508.02538, section 4).

    The matrix exp(β s) of the bank and the candidates is scaled until its rows have equal sums and its columns too. A
    candidate's number is minus the logarithm of its factor, over β. Its first step is the inverted softmax of the
    bank's softmaxes. Raises ValueError as ``inverted_softmax`` does, and for less than one step.
    """
    _check(bank, candidates, sharpness)
    if steps < 1:
        raise ValueError(f"Sinkhorn takes at least 1 step; got {steps}")
    beta = sharpness / unit
    v, done = balance(bank, candidates, score, beta, steps)
    return Correction(
        "sinkhorn", (-v / beta).float(), settings={"sharpness": sharpness, "bank": len(bank), "steps": done}
    )


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T


def _check(bank: Tensor, candidates: Tensor, sharpness: float = 1.0) -> None:
    for name, rows in (("the bank", bank), ("the candidates", candidates)):
        if rows.ndim != 2 or not len(rows):
            raise ValueError(f"{name} of a correction are rows (n, D), at least one; got {tuple(rows.shape)}")
        if bad := int((~rows.isfinite().all(1)).sum()):
            raise ValueError(f"{bad} of {len(rows)} rows of {name} are not finite; leave them out")
    if not sharpness > 0:
        raise ValueError(f"a sharpness is above 0; got {sharpness}")
