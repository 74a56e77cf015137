"""Statistical depth: how central a row is among the others."""

from __future__ import annotations

import torch
from torch import Tensor

from align.metrics.geometry.estimate import Estimate, linearise
from align.metrics.geometry.rows import UnitRows


def depth(x: UnitRows) -> Tensor:
    """Return (n,) float64: 2 minus the mean cosine distance of a row to the others (Seegmiller and Preum 2023, arXiv
    2310.15010, definition 1; Pandolfo et al. 2018, doi:10.1002/cjs.11479, for the cosine distance).

    It lies in [0, 2]. The deepest row is the prototype of the rows, the least deep one their outlier. It follows from
    the mean row, so no pairs are computed. It is 2 of a single row.
    """
    n, total = len(x), x.mean() * len(x)
    parts = [a @ total - a.square().sum(dim=1) for _, a in x.blocks()]
    others = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    return 1 + others / (n - 1) if n > 1 else torch.full((n,), 2.0, dtype=torch.float64)


def mean_depth(values: Tensor) -> Estimate:
    """Return the mean depth: 1 plus the mean cosine of two rows. values: (n,) of ``depth``."""
    return linearise(float(values.mean()), 2 * values)
