"""Logistic regression with an L2 penalty, for several sets of training rows at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from align.evaluation.probe.design import Design
from align.evaluation.probe.lbfgs import FALL, STEPS, Minimum, minimise


@final
class Logistic:
    """P problems over the rows of a design: minimise Σ w·loss + |W|² / 2C (scikit-learn's ``LogisticRegression``).

    The intercept has no penalty. The values are divided by the sum of w, so the tolerance of a solution is a row's.

    Args:
        design: n rows.
        target: (n,) int64, the class of each row, whose loss is the cross-entropy of the softmax over the classes of
            the problem's rows. Or (n, c) bool, the classes of each row, whose loss is the sum of the c binary ones:
            one class against the rest.
        weight: (P, n) of the rows in each problem.
        classes: c.
    """

    def __init__(self, design: Design, target: Tensor, weight: Tensor, classes: int):
        self.design, self.target, self.classes = design, target, classes
        self.weight = weight.double().T.contiguous()  # (n, P)
        self.total = self.weight.sum(dim=0).clamp(min=1)  # (P,)
        self.several = target.ndim == 2
        self.absent = torch.zeros(len(weight), classes, dtype=torch.bool)  # classes that a problem does not know
        if not self.several:
            held = torch.zeros(len(weight), classes, dtype=torch.float64)
            self.absent = held.index_add_(1, target, self.weight.T) <= 0
        self.curvature = 0.25 if self.several else 1 / max(2, classes)  # of the loss where all is equally likely

    def solve(
        self, cost: Tensor, start: Tensor | None = None, steps: int = STEPS, fall: float = FALL
    ) -> tuple[Tensor, Minimum]:
        """Return the solutions (P, r + 1, c) for C = cost (P,), the intercepts last. start: where to begin, or 0."""
        r, total = len(self.design.variance), self.total
        penalty = 1 / (cost * total)  # (P,)
        scale = (self.curvature * self.design.variance + penalty[:, None]).rsqrt()  # (P, r)
        scale = torch.cat([scale, torch.full((len(total), 1), self.curvature).double().rsqrt()], dim=1)[:, :, None]
        begin = torch.zeros(len(total), r + 1, self.classes, dtype=torch.float64) if start is None else start

        def objective(x: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
            w = x.view(len(x), r + 1, self.classes) * scale[number]
            value, gradient = self._loss(w, number)
            slopes = w[:, :r] * penalty[number, None, None]
            value = value + 0.5 * (slopes * w[:, :r]).sum(dim=(1, 2))
            gradient[:, :r] += slopes
            return value, (gradient * scale[number]).flatten(1)

        found = minimise(objective, (begin / scale).flatten(1), steps=steps, fall=fall)
        return found.x.view(len(total), r + 1, self.classes) * scale, found

    def logits(self, w: Tensor, number: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield (places, rows (b, r), logits (b, p, c)) of some rows at a time, by solutions (p, r + 1, c).

        number: (p,) of their problems. A class that the problem does not know has the logit -inf.
        """
        p, c = len(w), self.classes
        columns = self.design.weights(w[:, :-1].permute(1, 0, 2).reshape(-1, p * c))
        for at, rows in self.design.blocks(p * c):
            z = (rows @ columns).view(-1, p, c) + w[:, -1]
            yield at, rows, z.masked_fill_(self.absent[number], -torch.inf)

    def _loss(self, w: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean loss (p,) and its gradient (p, r + 1, c)."""
        p, c = len(w), self.classes
        value = torch.zeros(p, dtype=torch.float64)
        intercept = torch.zeros(p, c, dtype=torch.float64)
        slope = torch.zeros_like(self.design.weights(w[0, :-1])[:, :1]).repeat(1, p * c)  # (r or D, p * c)
        for at, rows, z in self.logits(w, number):
            part = self.weight[at][:, number] / self.total[number]  # (b, p)
            loss, g = self._several(z, at) if self.several else self._single(z, at)
            value += (part * loss).sum(dim=0)
            g *= part[:, :, None]
            intercept += g.sum(dim=0)
            slope += rows.T @ g.view(-1, p * c)
        by_axis = self.design.axial(slope).view(-1, p, c).permute(1, 0, 2)
        return value, torch.cat([by_axis, intercept[:, None]], dim=1)

    def _single(self, z: Tensor, at: slice) -> tuple[Tensor, Tensor]:
        """Return the loss (b, p) and its gradient by the logits. A row of a class that is absent has a weight of 0."""
        right = self.target[at, None, None].expand(-1, z.shape[1], 1)
        total = z.logsumexp(dim=2)
        loss = total - z.gather(2, right)[:, :, 0]
        g = (z - total[:, :, None]).exp_()
        g.scatter_add_(2, right, torch.full_like(right, -1, dtype=g.dtype))
        return loss.masked_fill_(loss.isinf(), 0.0), g

    def _several(self, z: Tensor, at: slice) -> tuple[Tensor, Tensor]:
        is_right = self.target[at, None, :].double()
        loss = (torch.nn.functional.softplus(z) - is_right * z).sum(dim=2)
        return loss, torch.sigmoid(z) - is_right
