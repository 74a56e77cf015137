"""The choice of C: a path over its values, with each solution as the next one's start, judged on rows left out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.probe.design import Design, take
from align.evaluation.probe.logistic import Logistic
from align.evaluation.probe.statistics import average_precisions

COSTS = (10 ** torch.linspace(-6, 5, 45, dtype=torch.float64)).tolist()
"""The 45 values of C of DINOv2 (Oquab et al. 2023, arXiv:2304.07193, evaluation by logistic regression)."""
BLOCK = 1 << 22  # logits of a block


class Trials(NamedTuple):
    """T sets of training rows, and the folds by which each chooses its C.

    drawn: (T, n) bool, the rows in each. fold: (T, n) int64 of each row. folds: how many are held out in turn, the
    first ones. 0: no choice, C is 1.
    """

    drawn: Tensor
    fold: Tensor
    folds: int


class Linear(NamedTuple):
    """A fitted probe of the table's rows. weight: (D, c). bias: (c,). cost: its C.

    blind: True where all training rows are equal. done: False where the fit ended before its tolerance was met.
    """

    weight: Tensor
    bias: Tensor
    cost: float
    blind: bool
    done: bool

    def logits(self, table: Tensor, places: Tensor, unit: bool) -> Tensor:
        """Return (n, c) float32. They are all 0 of a probe that is blind."""
        step = max(1, BLOCK // max(table.shape[1], len(self.bias)))
        parts = [
            (take(table, some, unit) @ self.weight + self.bias).float() * (not self.blind)
            for some in places.split(step)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, len(self.bias))


def fit(design: Design, target: Tensor, classes: int, trials: Trials) -> list[Linear]:
    """Return T probes, each with the C whose rows left out are told best. Of equals, the smallest C counts.

    target: (n,) int64 or (n, c) bool, see ``Logistic``: judged by accuracy, or by the mean average precision.
    """
    sets = len(trials.drawn)
    cost, start = torch.ones(sets, dtype=torch.float64), None
    if trials.folds and len(design.variance):
        cost, start = _choose(design, target, classes, trials)
    whole = Logistic(design, target, trials.drawn, classes)
    solved, found = whole.solve(cost, start)
    out = []
    for t in range(sets):
        weight, bias = design.original(solved[t, :-1], solved[t, -1])
        bias = bias.masked_fill(whole.absent[t], -torch.inf)
        if blind := not len(design.variance):
            bias = torch.zeros_like(bias)
        out.append(Linear(weight, bias, float(cost[t]), blind, bool(found.done[t])))
    return out


def _choose(design: Design, target: Tensor, classes: int, trials: Trials) -> tuple[Tensor, Tensor]:
    """Return C (T,), and a solution (T, r + 1, c) of each to start from."""
    sets, folds = len(trials.drawn), trials.folds
    left = torch.arange(folds)[:, None, None] == trials.fold  # (F, T, n)
    weight = (trials.drawn & ~left).transpose(0, 1).reshape(sets * folds, -1)
    inner = Logistic(design, target, weight, classes)
    best, cost = torch.full((sets,), -1.0).double(), torch.ones(sets, dtype=torch.float64)
    solved, start = None, torch.zeros(sets, len(design.variance) + 1, classes, dtype=torch.float64)
    for value in COSTS:
        solved, _ = inner.solve(torch.full((sets * folds,), value).double(), solved)
        judged = _judge(inner, solved, target, trials)
        better = judged > best
        best, cost = torch.where(better, judged, best), torch.where(better, value, cost)
        start[better] = solved.view(sets, folds, -1, classes)[better, 0]
    return cost, start


def _judge(inner: Logistic, solved: Tensor, target: Tensor, trials: Trials) -> Tensor:
    """Return (T,): the number of rows left out that are told right, or their mean average precision."""
    sets, folds, c = len(trials.drawn), trials.folds, inner.classes
    right = torch.zeros(sets, dtype=torch.float64)
    kept = []
    for at, _, z in inner.logits(solved, torch.arange(sets * folds)):
        fold = trials.fold[:, at].T.clamp(max=folds - 1)  # (b, T)
        counts = (trials.drawn[:, at] & (trials.fold[:, at] < folds)).T
        z = z.view(-1, sets, folds, c).gather(2, fold[:, :, None, None].expand(-1, -1, 1, c))[:, :, 0]  # (b, T, c)
        if target.ndim == 2:
            kept.append((z.float(), counts))
            continue
        at_right = target[at, None, None].expand(-1, sets, 1)
        others = z.scatter(2, at_right, -torch.inf).amax(dim=2)
        right += ((z.gather(2, at_right)[:, :, 0] > others) & counts).sum(dim=0)
    if target.ndim == 1:
        return right
    z, counts = torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept])
    found = [average_precisions(z[counts[:, t], t], target[counts[:, t]]).nanmean() for t in range(sets)]
    return torch.stack(found).nan_to_num(0.0)
