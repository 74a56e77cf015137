"""Ridge regression of a number, with its penalty chosen as a probe's C is."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.probe.answers import inner_folds
from align.evaluation.probe.choose import BLOCK, COSTS
from align.evaluation.probe.design import Design, take
from align.evaluation.probe.plan import Part
from align.evaluation.probe.pool import Pool


class Predicted(NamedTuple):
    """Predictions of q rows. true, told, sample, part: (q,). alphas: the penalty of each probe."""

    true: Tensor
    told: Tensor
    sample: Tensor
    part: Tensor
    alphas: list[float]


def predict(
    train: Pool, test: Pool, parts: Sequence[Part], groups: Sequence[Hashable], unit: bool, seed: int
) -> Predicted | None:
    """Return the predictions of all parts, one after the other, or None where a part has no row to learn from.

    Each minimises |y − Xw − b|² + α|w|² (Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634). α is one of
    the values 1 / C, the one with the smallest squared error on rows left out. Of equals, the largest counts.
    """
    pools = [(part, train.only(part.train), test.only(part.test)) for part in parts]
    pools = [(part, one, other) for part, one, other in pools if len(other.place)]
    if not pools or not all(len(one.place) for _, one, _ in pools):
        return None
    true, told, sample, number, alphas = [], [], [], [], []
    for i, (part, one, other) in enumerate(pools):
        alike = one._replace(target=torch.zeros_like(one.sample))  # folds need no classes here
        fold, folds = inner_folds(part, alike, groups, seed)
        alpha = _choose(one, fold, folds, unit) if folds > 1 or bool((fold != 0).any()) else 1.0
        true.append(other.target)
        told.append(solve(one, torch.tensor([alpha]).double(), unit, other)[:, 0])
        sample.append(other.sample)
        number.append(torch.full_like(other.sample, i))
        alphas.append(alpha)
    return Predicted(torch.cat(true), torch.cat(told), torch.cat(sample), torch.cat(number), alphas)


def _choose(train: Pool, fold: Tensor, folds: int, unit: bool) -> float:
    alphas = 1 / torch.tensor(COSTS, dtype=torch.float64)
    error = torch.zeros(len(alphas), dtype=torch.float64)
    for held in range(folds):
        left = fold == held
        if bool(left.any()) and not bool(left.all()):
            told = solve(_some(train, ~left), alphas, unit, _some(train, left))
            error += ((told - train.target[left, None]) ** 2).sum(dim=0)
    return float(alphas[error.argmin()])


def solve(train: Pool, alphas: Tensor, unit: bool, asked: Pool) -> Tensor:
    """Return the predictions (q, a) of the rows asked, by the ridge regressions with the penalties alphas (a,)."""
    design = Design(train.table, train.place, unit)
    mean = train.target.mean()
    product = torch.zeros(design.weights(torch.zeros(len(design.variance), 1).double()).shape).double()
    for at, rows in design.blocks(1):
        product += rows.T @ (train.target[at, None] - mean)
    weight = design.axial(product) / (design.n * design.variance[:, None] + alphas)  # (r, a)
    turned, bias = design.original(weight, mean.expand(len(alphas)))
    step = max(1, BLOCK // max(train.table.shape[1], len(alphas)))
    parts = [take(asked.table, some, unit) @ turned + bias for some in asked.place.split(step)]
    return torch.cat(parts)


def _some(pool: Pool, kept: Tensor) -> Pool:
    return Pool(pool.table, pool.place[kept], pool.sample[kept], pool.target[kept])
