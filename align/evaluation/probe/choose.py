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
CHOOSING = 100  # steps of a fit by which C is chosen, at most
TOGETHER = 1 << 21  # numbers of the values of C that are fitted at the same time, each from the last solution before


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
    sets, folds, n = len(trials.drawn), trials.folds, design.n
    left = torch.arange(folds)[:, None, None] == trials.fold  # (F, T, n)
    weight = (trials.drawn & ~left).transpose(0, 1).reshape(sets * folds, n)  # (T * F, n)
    best, cost = torch.full((sets,), -1.0).double(), torch.ones(sets, dtype=torch.float64)
    start = torch.zeros(sets, len(design.variance) + 1, classes, dtype=torch.float64)
    together = max(1, TOGETHER // max(1, sets * folds * classes * max(n, len(design.variance))))
    solved = None
    for values in torch.tensor(COSTS, dtype=torch.float64).split(together):
        inner = Logistic(design, target, weight.repeat(len(values), 1), classes)
        begin = None if solved is None else solved.repeat(len(values), 1, 1)
        found, _ = inner.solve(values.repeat_interleave(sets * folds), begin, CHOOSING)
        found = found.view(len(values), sets * folds, -1, classes)
        solved = found[-1]
        for value, judged, one in zip(values, _judge(inner, found, target, trials), found, strict=True):
            better = judged > best
            best, cost = torch.where(better, judged, best), torch.where(better, value, cost)
            start[better] = one.view(sets, folds, -1, classes)[better, 0]
    return cost, start


def _judge(inner: Logistic, found: Tensor, target: Tensor, trials: Trials) -> Tensor:
    """Return (v, T): the number of rows left out that are told right, or their mean average precision.

    found: (v, T * F, r + 1, c), the solutions for v values of C.
    """
    count, sets, folds, c = len(found), len(trials.drawn), trials.folds, inner.classes
    right = torch.zeros(count, sets, dtype=torch.float64)
    kept = []
    for at, _, z in inner.logits(found.flatten(0, 1), torch.arange(count * sets * folds)):
        fold = trials.fold[:, at].T.clamp(max=folds - 1)  # (b, T)
        counts = (trials.drawn[:, at] & (trials.fold[:, at] < folds)).T
        place = fold[:, None, :, None, None].expand(-1, count, -1, 1, c)
        z = z.view(-1, count, sets, folds, c).gather(3, place)[:, :, :, 0]  # (b, v, T, c)
        if target.ndim == 2:
            kept.append((z.float(), counts))
            continue
        at_right = target[at, None, None, None].expand(-1, count, sets, 1)
        others = z.scatter(3, at_right, -torch.inf).amax(dim=3)
        right += ((z.gather(3, at_right)[..., 0] > others) & counts[:, None]).sum(dim=0)
    if target.ndim == 1:
        return right
    z, counts = torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept])
    for v in range(count):
        for t in range(sets):
            held = counts[:, t]
            right[v, t] = average_precisions(z[held, v, t], target[held]).nanmean().nan_to_num(0.0)
    return right
