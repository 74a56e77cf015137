"""log Σ exp over every tuple of rows, for every anchor at once, in tiles. InfoNCE and Symile are made of it.

The logit of a tuple that takes one row of each of M modalities is scale·Σ_d Π_m x_m[d]. All anchors see the same cube
of logits (for M = 2 the matrix of similarities, for both directions), and only the set that normalises differs. So a
slab of the cube is one matrix product, and its row sums, column sums and total serve all anchors. Going back, the slab
is made again: 8·Π n_m·D operations in all, and memory for one slab.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from align.losses.kernels.numerics import exact, refuse_second_derivative, sum_dtype
from align.losses.kernels.parts import Merge
from align.losses.kernels.positives import Positives
from align.losses.kernels.products import round_slope
from align.losses.kernels.running import Slopes, Sums
from align.losses.kernels.slabs import Forbid, Maker, Plan, plan_of, product
from align.losses.kernels.tuple_logits import add_tuple_gradients, logits_of


def log_sums(
    xs: Sequence[Tensor],
    scale: Tensor,
    tuples: Tensor,
    *,
    anchors: Sequence[int] | None = None,
    forbid: Forbid | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
    factors: Sequence[int] | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Return log Σ exp of each anchor modality's rows, (n_m,), and the logits (C,) of the given tuples.

    Both are differentiable, once. The sum of a row is over its logits with all tuples of the other modalities. It is
    -inf where no tuple is left.

    xs: M >= 2 tensors (n_m, D) of one dtype, none empty. scale: 0-d, of that dtype, or float32 beside halves. Logits
        and sums have the scale's dtype. Halves are multiplied as halves where the device can, with float32 sums, and
        widened a tile at a time where it cannot. Gradients are summed in float32.
    tuples: (C, M) rows.
    anchors: the anchor modalities, all by default.
    forbid: sets the logits that an anchor must not see to -inf. For M = 2 it is called for the first anchor only, and
        holds for both.
    part, merge: this call computes its share of the rows of one modality. ``merge`` joins the parts' sums in the middle
        of the forward pass. Values are whole everywhere, gradients are this part's share.
    tile: rows of a slab. None: as many as make about a million logits, and on a GPU as fit into its L2 cache.
    factors: how many halves a row of each xs is the product of, where some are float32. Default: 1 each.
    """
    plan = plan_of(xs, scale, anchors, forbid, part, merge, tile, factors)
    *sums, given = _LogSums.apply(plan, tuples, scale, *xs)
    return sums, given


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, tuples: Tensor, scale: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        with exact(scale):
            maker, sums = Maker(plan, scale, xs), Sums(plan, scale)
            for slab in plan.slabs(scale.device):
                sums.add(maker.logits(slab, maker.rows(slab)[1]), slab)
            logs = torch.cat(sums.logs())
            if plan.merge:
                logs = plan.merge(logs, "logsumexp")
            given = logits_of(tuples, scale, xs, plan.tile)
        ctx.plan = plan
        ctx.save_for_backward(tuples, scale, logs, *xs)
        parts = logs.to(scale.dtype).split([plan.lengths[m] for m in plan.anchors])
        return (*parts, given)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        plan: Plan = ctx.plan
        tuples, scale, logs, *xs = ctx.saved_tensors
        with exact(scale):
            wanted = ctx.needs_input_grad[3:]  # a bank's rows need no gradient, and no memory for one
            kind = scale.dtype
            out = [torch.zeros_like(x, dtype=kind) if needs else None for x, needs in zip(xs, wanted, strict=True)]
            steep = scale.new_zeros((), dtype=sum_dtype(scale))
            maker = Maker(plan, scale, xs)
            slopes = Slopes(plan, logs.split([plan.lengths[m] for m in plan.anchors]), grads[:-1])
            positives = None if plan.half is None else Positives(plan, tuples, scale)
            for slab in plan.slabs(scale.device):
                factor, rows = maker.rows(slab)
                slope = slopes(maker.logits(slab, rows), slab).flatten(0, 1)  # (J·t, columns)
                if positives:
                    positives.take(slope, slab)
                rounded = round_slope(slope, plan.half)
                down = rounded.times(xs[slab.v][slab.columns]).unflatten(0, (len(factor), -1))  # (J, t, D)
                if (of_v := out[slab.v]) is not None:
                    rounded.add_transposed(of_v[slab.columns], rows)
                inner = (down * xs[slab.u][slab.start : slab.stop]).sum(1)  # (J, D)
                if (of_u := out[slab.u]) is not None:
                    of_u[slab.start : slab.stop] += down.mul_(factor[:, None]).sum(0)
                rest = {m: xs[m][index].to(kind) for m, index in slab.rest.items()}
                steep += (inner * product([*rest.values()])).sum() if rest else inner.sum()
                for m, index in slab.rest.items():
                    others = [x for o, x in rest.items() if o != m]
                    if (of_m := out[m]) is not None:
                        of_m.index_add_(0, index, product([maker.scale * inner, *others]))
            if positives:
                for x in out:
                    if x is not None:
                        x.mul_(scale)
                add_tuple_gradients(tuples, positives.slopes, scale, xs, out, steep, (0, 1), plan.tile)
            add_tuple_gradients(tuples, grads[-1], scale, xs, out, steep, plan.part, plan.tile)
        returned = (None if x is None else x.to(like.dtype) for x, like in zip(out, xs, strict=True))
        return None, None, steep.to(kind), *returned
