"""Deep CCA: two modalities whose directions are correlated as much as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast, final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_ids, row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import at_least_float32, exact, nothing, refuse_second_derivative
from align.losses.kernels.pairing import complete_tuples
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def deep_cca(
    a: Tensor,
    b: Tensor,
    *,
    directions: int | None = None,
    ridge: float = 1e-2,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return minus the sum of the canonical correlations of two modalities over the pairs of rows of one sample (Andrew
    et al. 2013, Deep Canonical Correlation Analysis, ICML, section 3, the trace norm of T); a 0-d tensor.

    They are the singular values of T = Σ_aa^(-1/2) Σ_ab Σ_bb^(-1/2). The inverse roots here are those of Cholesky, with
    the same singular values. The gradient of their sum is U V', so equal ones do no harm. It costs P·D² for P pairs,
    and D³, which every part computes.

    a: (n_a, D), b: (n_b, D), not normalised, or unit vectors times √D. Computed in float32 at least, autocast or not.
    directions: k, the number of correlations that count. None: all D.
    ridge: r > 0, added to the variances. With fewer pairs than D it alone keeps the correlations below 1.
    sample_a, sample_b: ids. Without ids, row i belongs to sample i. A row of id -1 is in no pair.
    weight_a, weight_b: (n,) weights. A pair counts (w_i + w_j) / 2. Covariances are unbiased.
    part, merge: as in ``infonce``. A part takes its share of the pairs.

    With fewer than two pairs it is zero and so are all gradients. Where a row is not finite, it is not a number. There
    is no second derivative. Raises ValueError for shapes that do not fit, for a ridge that is not positive or lost in
    rounding, and for more directions than D.
    """
    check_embeddings([a, b])
    check_part(part, merge)
    D = a.shape[1]
    if not 0 < ridge < math.inf:
        raise ValueError(f"ridge is a positive number; got {ridge}")
    if directions is not None and not 1 <= directions <= D:
        raise ValueError(f"directions is 1 to D, {D}; got {directions}")
    with exact(a):
        a, b = at_least_float32([a, b])
        weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        pairs = complete_tuples([row_ids(sample_a, a, "sample_a"), row_ids(sample_b, b, "sample_b")])  # (P, 2)
        weights = (weight_a[pairs[:, 0]] + weight_b[pairs[:, 1]]) / 2
        total = weights.sum()
        shares = weights / torch.where(total == 0, 1, total)  # of all parts
        several = shares.count_nonzero() > 1
        unbiased = torch.where(several, 1 - shares.square().sum(), 1)
        i, j = take_share(pairs, part).unbind(1)
        counts = take_share(shares, part)
        # a moment does not change with the means to first order, so they need no gradient
        x, y = (z - sum_over_parts(counts @ z.detach(), merge) for z in (a[i], b[j]))
        both = torch.cat([x, y], 1)  # (p, 2D)
        moments = sum_over_parts(multiply((counts[:, None] * both).T, both.T), merge) / unbiased
        eye = ridge * torch.eye(D, dtype=moments.dtype, device=moments.device)
        if not bool(moments.isfinite().all()):  # a step that is not finite is skipped; LAPACK would end the run
            return moments.sum() * math.nan
        root_a, root_b = (_factor(moments[s, s] + eye, ridge) for s in (slice(D), slice(D, None)))
        T = torch.linalg.solve_triangular(root_a, moments[:D, D:], upper=False)
        T = torch.linalg.solve_triangular(root_b, T.mT, upper=False).mT  # (D, D)
        value = -cast(Tensor, _SumSingular.apply(T, D if directions is None else directions))
        return torch.where(several, value, 0) + nothing(a, b)


def _factor(moments: Tensor, ridge: float) -> Tensor:
    """Return Cholesky's root of a covariance with its ridge. Raises ValueError where rounding has lost the ridge."""
    root, failed = torch.linalg.cholesky_ex(moments)
    if bool(failed):
        most = float(moments.detach().diagonal().max())
        raise ValueError(
            f"ridge {ridge:g} is lost in the rounding of variances of {most:.3g}: raise it, "
            f"or take unit vectors times √D"
        )
    return root


class _SumSingular(torch.autograd.Function):
    """The sum of the k largest singular values of T (D, D). Its gradient is U V' of those above rounding."""

    @staticmethod
    def forward(ctx: Any, T: Tensor, k: int) -> Tensor:
        U, values, V = torch.linalg.svd(T)
        kept = (torch.arange(len(values), device=T.device) < k) & (values > 1e3 * torch.finfo(T.dtype).eps)
        ctx.save_for_backward((U * kept) @ V)
        return values[:k].sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        (slope,) = ctx.saved_tensors
        return grads[0] * slope, None


@final
class DeepCCA(Loss):
    """``deep_cca`` as a module. In a config::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          correlated: {loss: align.losses.DeepCCA, between: [image, text], weight: 0.1}

    When to use it: beside a contrastive term. Correlations do not change when a modality is turned or stretched, so
    alone it leaves the cosines of two modalities open, and scoring does not read it. A batch has several times D pairs.

    unit: the embeddings are unit vectors, as a JointModel's are unless it says ``normalize: false``. They are
        multiplied by √D first, so that variances are near 1 and ``ridge`` means the same for every D.
    The other arguments: as in ``deep_cca``.
    """

    kind = "none"
    takes_unpaired = True
    in_parts = True

    def __init__(self, directions: int | None = None, ridge: float = 1e-2, unit: bool = True):
        super().__init__()
        self.directions, self.ridge, self.unit = directions, ridge, unit

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), samples and weights (n_m,), no groups."""
        a, b = at_least_float32(embeddings)
        if self.unit:
            a, b = (math.sqrt(x.shape[-1]) * x for x in (a, b))
        weight_a, weight_b = weights or (None, None)
        return deep_cca(
            a,
            b,
            directions=self.directions,
            ridge=self.ridge,
            sample_a=samples[0],
            sample_b=samples[1],
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
