"""Centred kernel alignment (CKA) of two modalities, without the bias of few rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise
from align.metrics.geometry.rows import UnitRows
from align.metrics.geometry.spectrum import CONSTANT

PAIRS = ((0, 0), (1, 1), (0, 1))  # of the two modalities


def cka(x: UnitRows, y: UnitRows) -> Estimate:
    """Return linear CKA of n pairs: 1 for spaces that are the same up to rotation and scale, near 0 for unrelated ones.

    CKA (Kornblith et al. 2019, arXiv 1905.00414, equation 4) by the unbiased estimate of HSIC (Song et al. 2012, JMLR
    13, equation 5), as Nguyen et al. use it (2021, arXiv 2010.15327, equation 3). That estimate of centred rows is

        n (n - 3) HSIC = |X'Y|^2 + sum|x|^2 sum|y|^2 / ((n - 1)(n - 2)) - n / (n - 2) sum(|x|^2 |y|^2),

    which takes n D^2 steps and no n x n matrix. It may lie below 0. It is 0 where a modality is constant. Raises
    ValueError for fewer than 4 pairs.
    """
    if len(x) < 4:
        raise ValueError(f"CKA needs 4 pairs; got {len(x)}")
    n, sides = len(x), (x, y)
    means = (x.mean(), y.mean())
    gram = {(i, j): torch.zeros(sides[i].dim, sides[j].dim, dtype=torch.float64) for i, j in PAIRS}
    lengths = torch.empty(2, n, dtype=torch.float64)
    for rows, both in _centre(x, y, means):
        for i, j in PAIRS:
            gram[i, j].addmm_(both[i].T, both[j])
        for i in range(2):
            lengths[i, rows] = both[i].square().sum(dim=1)
    hsic = {(i, j): _hsic(gram[i, j], lengths[i], lengths[j]) for i, j in PAIRS}
    if bool((lengths.mean(dim=1) <= CONSTANT).any()) or min(hsic[0, 0], hsic[1, 1]) <= 0:
        return Estimate(0.0, torch.zeros(n, dtype=torch.float64))
    scale = (hsic[0, 0] * hsic[1, 1]) ** 0.5
    value = hsic[0, 1] / scale
    shares = {(0, 0): -value / hsic[0, 0], (1, 1): -value / hsic[1, 1], (0, 1): 2 / scale}
    influence = torch.zeros(n, dtype=torch.float64)
    for rows, both in _centre(x, y, means):
        for i, j in PAIRS:
            alone = lengths[i, rows] * lengths[j, rows]  # a row with itself, which the unbiased estimate leaves out
            influence[rows] += shares[i, j] * (((both[i] @ gram[i, j]) * both[j]).sum(dim=1) - alone)
    return linearise(value, n * influence)


def _centre(x: UnitRows, y: UnitRows, means: tuple[Tensor, Tensor]) -> Iterator[tuple[slice, tuple[Tensor, Tensor]]]:
    """Yield (rows, (their values of x, of y)) in blocks, less the means."""
    for rows, a in x.blocks():
        yield rows, (a - means[0], y.block(rows.start, rows.stop) - means[1])


def _hsic(gram: Tensor, x: Tensor, y: Tensor) -> float:
    """Return n (n - 3) HSIC. gram: (D_x, D_y) of centred rows. x, y: (n,) their squared lengths."""
    n = len(x)
    both = float(x.sum() * y.sum()) / ((n - 1) * (n - 2))
    return float(gram.square().sum()) + both - n / (n - 2) * float(x @ y)
