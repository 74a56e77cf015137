"""Repairs of hubness: each makes a correction of candidates from a bank of training queries.

A hub is a candidate that many queries find near, whatever they ask. Its scores with a bank say so before a query comes.
``sharpness`` is the inverse temperature of a softmax over cosines, so a model's scale changes no order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from align.scoring.bank import Bank
from align.scoring.correction import Correction

SHARPNESS = 20.0
"""The one of the code that QB-Norm's authors published."""


def nnn(bank: Bank, *, k: int = 128, alpha: float = 0.75) -> Correction:
    """Return Nearest Neighbor Normalization (Chowdhury et al. 2024, arXiv 2410.24114).

    A candidate's number is alpha times the mean of its k highest scores with the bank. A bank of fewer than k queries
    counts whole. Raises ValueError for a k below 1.
    """
    if k < 1:
        raise ValueError(f"the k of NNN is at least 1; got {k}")
    shift = alpha * bank.find_best_mean(k)
    return Correction("nnn", shift.float(), settings={"k": min(k, bank.size), "alpha": alpha})


def inverted_softmax(bank: Bank, *, sharpness: float = SHARPNESS) -> Correction:
    """Return the inverted softmax (Smith et al. 2017, arXiv 1702.03859), in the log domain.

    With β the sharpness, exp(β s) / Σ exp(β s') over the bank orders candidates as s - log(Σ exp(β s')) / β does.
    Raises ValueError for a sharpness that is not above 0.
    """
    beta = _read_beta(bank, sharpness)
    return Correction("inverted_softmax", (bank.sum_exponentials(beta) / beta).float(), None, {"sharpness": sharpness})


def qb_norm(bank: Bank, *, sharpness: float = SHARPNESS, k: int = 1) -> Correction:
    """Return QB-Norm's dynamic inverted softmax (Bogolin et al. 2022, arXiv 2112.12777).

    The inverted softmax counts for a query whose best candidate is in the activation set: the candidates that are among
    the best k of a query of the bank. Raises ValueError as ``inverted_softmax`` does, and for a k below 1.
    """
    if k < 1:
        raise ValueError(f"the k of QB-Norm is at least 1; got {k}")
    active, inner = bank.find_chosen(k), inverted_softmax(bank, sharpness=sharpness)
    return Correction("qb_norm", inner.shift, active, {**inner.settings, "k": k, "active": int(active.sum())})


def dual_bank(bank: Bank, gallery: Tensor, *, sharpness: float = SHARPNESS) -> Correction:
    """Return DBNorm's dual inverted softmax (Wang et al. 2023, arXiv 2310.11612).

    It is the product of two inverted softmaxes, over the bank of queries and over a bank of the candidates' modality.
    With β the sharpness of both, it orders candidates as s - (log Σ exp(β s') + log Σ exp(β s'')) / 2β does.

    gallery: (g, D) rows of the candidates' modality, which score candidates by their cosine. Raises ValueError as
    ``inverted_softmax`` does, and as ``Bank`` does for the gallery.
    """
    queries = bank.sum_exponentials(_read_beta(bank, sharpness))
    alike = Bank(gallery, bank.candidates, _cosines).sum_exponentials(sharpness)
    shift = bank.unit * (queries + alike) / (2 * sharpness)
    return Correction("dual_bank", shift.float(), settings={"sharpness": sharpness, "gallery bank": len(gallery)})


def sinkhorn(bank: Bank, *, sharpness: float = SHARPNESS, steps: int = 10) -> Correction:
    """Return the correction by Sinkhorn's potentials (Cuturi 2013; for retrieval Pan et al. 2025, arXiv 2508.02538).

    The matrix exp(β s) of the bank and the candidates is scaled until its rows have equal sums and its columns too. A
    candidate's number is minus the logarithm of its column's factor, over β. Raises ValueError as ``inverted_softmax``
    does, and for less than one step.
    """
    beta = _read_beta(bank, sharpness)
    if steps < 1:
        raise ValueError(f"Sinkhorn takes at least 1 step; got {steps}")
    v, done = bank.balance(beta, steps)
    return Correction("sinkhorn", (-v / beta).float(), settings={"sharpness": sharpness, "steps": done})


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.normalize(a, dim=1) @ torch.nn.functional.normalize(b, dim=1).T


def _read_beta(bank: Bank, sharpness: float) -> float:
    """Return the sharpness in the score's unit."""
    if not sharpness > 0:
        raise ValueError(f"a sharpness is above 0; got {sharpness}")
    return sharpness / bank.unit
