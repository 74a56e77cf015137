"""Sums of exp over slabs for every anchor at once, and their slopes going back."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from align.losses.kernels.numerics import sum_dtype
from align.losses.kernels.slabs import Plan, Slab, axes, spread_over


class Sums:
    """Running sums of exp for the anchors, each (n_m,). A shifted plan keeps the largest logit so far too."""

    def __init__(self, plan: Plan, like: Tensor):
        self.plan = plan
        self.sums = {m: like.new_zeros(plan.lengths[m], dtype=sum_dtype(like)) for m in plan.anchors}
        self.tops = {m: torch.full_like(x, -math.inf) for m, x in self.sums.items()} if plan.shifted else {}

    def add(self, logits: Tensor, slab: Slab) -> None:
        """Add the logits of a slab, (J, t, n_v), which are overwritten."""
        forbid, alone = self.plan.forbid, bool(self.plan.rest)
        if forbid and not alone:
            forbid(logits, self.plan.anchors[0], slab)
        if not self.plan.shifted and not (forbid and alone):
            of_rows = logits.exp_().sum(2)  # (J, t): one exp serves every anchor
            for m in self.plan.anchors:
                self._put(m, logits.flatten(0, 1).sum(0) if m == slab.v else of_rows.sum(axes(m, slab)[:1]), slab)
            return
        for m in self.plan.anchors:
            each = logits
            if forbid and alone:
                each = logits.clone()
                forbid(each, m, slab)
            if self.plan.shifted:
                each = each - spread_over(self._raise_tops(m, each.amax(axes(m, slab)), slab), m, slab).to(each.dtype)
            self._put(m, each.exp_().sum(axes(m, slab)), slab)

    def logs(self) -> list[Tensor]:
        """Return the log of each anchor modality's sums, (n_m,)."""
        return [x.log() + (_finite(self.tops[m]) if self.tops else 0) for m, x in self.sums.items()]

    def _put(self, m: int, more: Tensor, slab: Slab) -> None:
        if m == slab.u:
            self.sums[m][slab.start : slab.stop] += more
        elif m == slab.v:
            self.sums[m][slab.columns] += more
        else:
            self.sums[m].index_add_(0, slab.rest[m], more.to(self.sums[m].dtype))

    def _raise_tops(self, m: int, seen: Tensor, slab: Slab) -> Tensor:
        """Return the largest logit of each anchor so far, with these, after rescaling the sums to it."""
        top, seen = self.tops[m].clone(), seen.to(self.tops[m].dtype)
        if m == slab.u:
            top[slab.start : slab.stop] = torch.maximum(top[slab.start : slab.stop], seen)
        elif m == slab.v:
            top[slab.columns] = torch.maximum(top[slab.columns], seen)
        else:
            top.scatter_reduce_(0, slab.rest[m], seen, "amax")
        self.sums[m] *= (self.tops[m] - _finite(top)).exp()
        self.tops[m] = top
        return _finite(top)


class Slopes:
    """Slopes of the loss by the logits of a slab: Σ_m g_m·exp(logit - log Σ exp of anchor m)."""

    def __init__(self, plan: Plan, logs: Sequence[Tensor], grads: Sequence[Tensor]):
        self.plan = plan
        self.grads = dict(zip(plan.anchors, grads, strict=True))
        # An anchor that does not count may have no candidates at all.
        self.logs = {m: torch.where(self.grads[m] == 0, math.inf, x) for m, x in zip(plan.anchors, logs, strict=True)}
        self.factors = {m: (g * (-self.logs[m]).exp()).to(g.dtype) for m, g in self.grads.items()}
        self.room: Tensor | None = None

    def __call__(self, logits: Tensor, slab: Slab) -> Tensor:
        """Return the slopes, (J, t, n_v), written over the logits."""
        forbid, alone = self.plan.forbid, bool(self.plan.rest)
        if forbid and not alone:
            forbid(logits, self.plan.anchors[0], slab)
        if not self.plan.shifted and not (forbid and alone):
            factors = [spread_over(x, m, slab) for m, x in self.factors.items()]
            columns = [x for x in factors if x.ndim == 1]
            rows = [x for x in factors if x.ndim > 1]
            logits.exp_()
            if not columns:
                return logits.mul_(functools.reduce(torch.add, rows))
            if not rows:
                return logits.mul_(columns[0])
            if self.room is None or self.room.numel() < logits.numel():
                self.room = torch.empty_like(logits)
            both = self.room.flatten()[: logits.numel()].view_as(logits)
            return logits.mul_(torch.add(functools.reduce(torch.add, rows), columns[0], out=both))
        slope = torch.zeros_like(logits)
        for m in self.plan.anchors:
            each = logits - spread_over(self.logs[m], m, slab).to(logits.dtype)
            if forbid and alone:
                forbid(each, m, slab)
            slope.addcmul_(each.exp_(), spread_over(self.grads[m], m, slab).expand_as(each))
        return slope


def _finite(top: Tensor) -> Tensor:
    return torch.where(top.isinf(), 0, top)
