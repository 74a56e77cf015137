"""Tests of the difference of two systems on the same samples: sign flips, and Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, lgamma, log

import torch
from torch import Tensor

CELLS = 1 << 22  # signs held at a time


def sign_flip(differences: Tensor, *, draws: int = 10_000, generator: torch.Generator) -> float:
    """Return the two-sided p-value of a mean difference of zero, by random sign flips (Fisher 1935, section 21).

    It is the share of draws, with the data themselves as one of them, whose mean is at least as far from zero: never
    below 1 / (draws + 1). Where 2^n is at most `draws`, all sign patterns are counted, and where all differences are of
    one size (a sample is right or wrong), the binomial distribution has the count: both are exact.
    differences: (n,) of the n samples. Samples without a difference change nothing. It is 1 where all are zero.
    """
    x = differences.double()
    x = x[x != 0]
    n = len(x)
    if not n:
        return 1.0
    if bool((x.abs() == x.abs()[0]).all()):
        return binomial(int((x > 0).sum()), n)
    least = float(x.sum().abs()) * (1 - 1e-12)  # sums of other orders differ in their last bits
    if 2**n <= draws:
        bits = torch.arange(2**n)[:, None] >> torch.arange(n) & 1
        return float(((bits * 2.0 - 1).double() @ x).abs().ge(least).double().mean())
    step, found = max(1, CELLS // n), 0
    for start in range(0, draws, step):
        signs = torch.randint(0, 2, (min(step, draws - start), n), generator=generator, dtype=torch.int8)
        found += int((signs.double() * 2 - 1).matmul(x).abs().ge(least).sum())
    return (found + 1) / (draws + 1)


def binomial(hits: int, n: int) -> float:
    """Return the two-sided p-value of `hits` among n fair coins: McNemar's exact test (1947, doi:10.1007/BF02295996).

    >>> binomial(9, 10), binomial(5, 10)
    (0.021484375, 1.0)
    """
    few = min(hits, n - hits)
    logs = [lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2) for k in range(few + 1)]
    return min(1.0, round(2 * fsum(map(exp, logs)), 15))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    out, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(p) - rank)))
        out[i] = highest
    return out
