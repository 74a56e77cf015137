"""An estimate with the values of single rows, from which its interval follows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Estimate(NamedTuple):
    """A measure of n rows.

    values: (n,) float64, whose mean is ``value``. Where the measure is no mean over rows, they are its linearised
    values: the measure plus the influence of each row on it (Hampel 1974, doi:10.1080/01621459.1974.10482962), by
    which the bootstrap of their mean is that of the measure in the first order (the infinitesimal jackknife, Efron
    1982, chapter 6).
    """

    value: float
    values: Tensor


def linearise(value: float, influence: Tensor) -> Estimate:
    """Return the estimate of a measure by the influence (n,) of each row. A constant in the influence does not count.

    influence: n times the derivative of the measure with respect to the weight of each row.
    """
    return Estimate(value, influence.double() - influence.double().mean() + value)
