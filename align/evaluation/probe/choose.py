"""The choice of C: a path over its values, with each solution as the next one's start, judged on rows left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.probe.design import Design, take
from align.evaluation.probe.logistic import Logistic
from align.metrics.binary import macro, precision_area

COSTS = (10 ** torch.linspace(-6, 5, 45, dtype=torch.float64)).tolist()
"""The 45 values of C of DINOv2 (Oquab et al. 2023, arXiv:2304.07193, evaluation by logistic regression)."""
FEW = COSTS[:37:4]  # values that few labels choose among: 10^-6 to 10^3, one a decade
BLOCK = 1 << 22  # logits of a block
CHOOSING, COARSE = 100, 1e-6  # of a fit by which C is chosen: steps at most, and the fall in WINDOW steps that ends it
AHEAD = 8  # values of C (two decades), at most, that are fitted before they are judged
TOGETHER = 1 << 21  # numbers of the values of C that are fitted at the same time, each from the last solution before


class Trials(NamedTuple):
    """T sets of training rows, and the folds by which each chooses its C.

    drawn: (T, n) bool, the rows in each. fold: (T, n) int64 of each row. folds: how many are held out in turn, the
    first ones. 0: no choice, C is 1. costs: the values of C, rising, or None for COSTS.
    """

    drawn: Tensor
    fold: Tensor
    folds: int
    costs: Sequence[float] | None = None

    def only(self, kept: Tensor) -> Trials:
        """Return some of the sets. kept: their numbers."""
        return self._replace(drawn=self.drawn[kept], fold=self.fold[kept])


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
    """Return C (T,), and a solution (T, r + 1, c) of each to start from.

    The values are taken from the smallest to the largest. A set's path ends where every row left out is told right.
    """
    sets, folds, n = len(trials.drawn), trials.folds, design.n
    best, cost = torch.full((sets,), -1.0).double(), torch.ones(sets, dtype=torch.float64)
    start = torch.zeros(sets, len(design.variance) + 1, classes, dtype=torch.float64)
    solved = start[:, None].repeat(1, folds, 1, 1)  # (T, F, r + 1, c), at the last value
    together = TOGETHER // max(1, sets * folds * classes * max(n, len(design.variance)))
    at = torch.arange(sets)  # sets whose paths go on
    costs = torch.tensor(COSTS if trials.costs is None else trials.costs, dtype=torch.float64)
    for values in costs.split(max(1, min(together, AHEAD))):
        some = trials.only(at)
        left = torch.arange(folds)[:, None] == some.fold[:, None]  # (t, F, n)
        weight = (some.drawn[:, None] & ~left).flatten(0, 1)  # (t * F, n)
        inner = Logistic(design, target, weight.repeat(len(values), 1), classes)
        begin = solved[at].flatten(0, 1).repeat(len(values), 1, 1)
        found, _ = inner.solve(values.repeat_interleave(len(weight)), begin, CHOOSING, COARSE)
        found = found.view(len(values), len(at), folds, -1, classes)
        solved[at] = found[-1]
        for value, judged, one in zip(values, _judge(inner, found, target, some), found, strict=True):
            better = judged > best[at]
            best[at[better]], cost[at[better]], start[at[better]] = judged[better], value, one[better, 0]
        at = at[best[at] < 1]
        if not len(at):
            break
    return cost, start


def _judge(inner: Logistic, found: Tensor, target: Tensor, trials: Trials) -> Tensor:
    """Return (v, T): the share of the rows left out that are told right, or their mean average precision.

    found: (v, T, F, r + 1, c), the solutions for v values of C.
    """
    count, sets, folds, c = *found.shape[:3], inner.classes
    right = torch.zeros(count, sets, dtype=torch.float64)
    kept, asked = [], (trials.drawn & (trials.fold < folds)).double().sum(dim=1).clamp(min=1)  # (T,)
    for at, _, z in inner.logits(found.flatten(0, 2), torch.arange(count * sets * folds)):
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
        return right / asked
    z, counts = torch.cat([a for a, _ in kept]), torch.cat([b for _, b in kept])
    for v in range(count):
        for t in range(sets):
            pairs = torch.stack([z[:, v, t], target], dim=1)[counts[:, t]]  # (b, 2, c)
            weight = torch.ones(1, len(pairs), dtype=torch.float64)
            right[v, t] = macro(precision_area)(pairs, weight)[0].nan_to_num(0.0)
    return right
