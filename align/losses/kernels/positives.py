"""Slopes of a loss by the logits of its positive tuples, kept in float32 where all others are rounded to halves.

A positive's slope is p from the sum and -1 from the tuple itself. Where the model is right, the two nearly cancel. So p
is taken out of the slab before it is rounded, and joins the -1 in float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from align.losses.kernels.parts import share
from align.losses.kernels.slabs import Plan, Slab


class Positives:
    """Slopes (C,) of tuples (C, M), collected from the slabs of a plan in the plan's order. They begin as zeros."""

    def __init__(self, plan: Plan, tuples: Tensor, like: Tensor):
        self.slopes = like.new_zeros(len(tuples))
        self.zero = like.new_zeros(())
        self.tuples, self.plan, self.turn = tuples, plan, 0
        first, last = share(plan.lengths[plan.u], plan.part)
        deep, self.height = plan.steps
        self.combined = torch.zeros_like(tuples[:, 0])
        for m in plan.rest:
            self.combined = self.combined * plan.lengths[m] + tuples[:, m]
        down = max(1, math.ceil((last - first) / self.height))
        across = math.ceil(plan.lengths[plan.v] / plan.width)
        count = math.ceil(math.prod(plan.lengths[m] for m in plan.rest) / deep) * down * across
        u = tuples[:, plan.u]
        slab = (self.combined // deep * down + (u - first) // self.height) * across + tuples[:, plan.v] // plan.width
        slab = torch.where((u >= first) & (u < last), slab, count)  # of another part
        ordered, self.order = slab.sort(stable=True)
        self.deep = deep
        # The one look at data, before the loop over slabs.
        self.edges = torch.searchsorted(ordered, torch.arange(count + 1, device=slab.device)).tolist()

    def take(self, slope: Tensor, slab: Slab) -> None:
        """Move the positives' slopes out of the next slab's (J·t, columns), where zeros stay."""
        here, there = self.edges[self.turn : self.turn + 2]
        if here < there:
            picked = self.order[here:there]
            rows = self.tuples[picked]
            i = self.combined[picked] % self.deep * (slab.stop - slab.start) + rows[:, slab.u] - slab.start
            j = rows[:, slab.v] - slab.columns.start
            self.slopes[picked] = slope[i, j]
            slope.index_put_((i, j), self.zero)
        self.turn += 1
