"""Distillation of a frozen teacher's similarities between two sets of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import Scale, check_embeddings, one_number, row_ids, row_weights
from align.losses.kernels.merging import log_sum_over_parts, sum_over_parts
from align.losses.kernels.multiply import multiply
from align.losses.kernels.numerics import exact, nothing, one_dtype
from align.losses.kernels.pairing import counterparts, weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.temperature import ClipTemperature


def distill(
    a: Tensor,
    b: Tensor,
    teacher_a: Tensor,
    teacher_b: Tensor,
    scale: Scale,
    teacher_scale: Scale = 100.0,
    *,
    samples: Sequence[Tensor] | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the divergence of the student's similarities between two sets of rows from a teacher's; a 0-d tensor.

    With p_i = softmax_j(teacher_scale·<ta_i, tb_j>) and q_i = softmax_j(scale·<a_i, b_j>) an anchor costs KL(p_i ‖ q_i)
    = Σ_j p_ij (log p_ij - log q_ij). A direction is the mean over its anchors, and the loss is the mean of both
    directions. This is the affinity mimicking of TinyCLIP (Wu et al. 2023, arXiv 2309.12314) and the relational
    distillation of CLIP-KD (Yang et al. 2023, arXiv 2307.12732), less the teacher's entropy. The entropy has no
    gradient, and without it the loss can reach 0.

    When to use it: to train a small student of a large pretrained pair of towers, or on pairs so noisy that the teacher
    knows better than the file which of them belong together. It costs two n×n matrices and the teacher's features,
    which can be computed once and stored in the shard.

    a: (n_a, D), b: (n_b, D). Logits are float32 at least, autocast or not.
    teacher_a, teacher_b: (n, E), where E need not be D. They get no gradient.
    scale, teacher_scale: the multipliers, already exponentiated. CLIP's ends at 100.
    samples: four tensors of ids, of a, b, teacher_a and teacher_b. Without ids, row i belongs to sample i. The k-th row
        of a sample and the teacher's k-th row of it are of one input. Rows without a counterpart are left out, as are
        rows of id -1.
    weight_a, weight_b: (n,) how much each anchor counts in its direction's mean.
    part, merge: as in ``infonce``. A part makes its share of the rows of both matrices.

    There are no groups: the teacher says which rows are alike. Where nothing pairs, the loss is zero and so are all
    gradients. Raises ValueError for shapes that do not fit.
    """
    check_embeddings([a, b])
    check_embeddings([teacher_a, teacher_b])
    check_part(part, merge)
    if samples is not None and len(samples) != 4:
        raise ValueError(f"distill takes samples of a, b, teacher_a and teacher_b; got {len(samples)}")
    with exact(a):
        a, b = one_dtype([a, b])
        scale = one_number(scale, a)
        rows = [a, b, teacher_a, teacher_b]
        names = ("a", "b", "teacher_a", "teacher_b")
        ids = [row_ids(samples[i] if samples else None, rows[i], f"samples of {name}") for i, name in enumerate(names)]
        of_a, of_teacher_a = counterparts(ids[0], ids[2])
        of_b, of_teacher_b = counterparts(ids[1], ids[3])
        weight_a, weight_b = row_weights(weight_a, a, "weight_a"), row_weights(weight_b, b, "weight_b")
        t_a, t_b = one_dtype([teacher_a, teacher_b])
        zero = nothing(*(x.to(scale.dtype) for x in (a, b, scale, t_a, t_b)))
        if not len(of_a) or not len(of_b):
            return zero
        t_a, t_b = t_a.detach(), t_b.detach()
        of_a, of_teacher_a = (take_share(rows, part) for rows in (of_a, of_teacher_a))
        student = scale * multiply(a[of_a], b[of_b])  # (n, n')
        teacher = one_number(teacher_scale, t_a, "teacher_scale").detach() * multiply(
            t_a[of_teacher_a], t_b[of_teacher_b]
        )
        there = _direction(student, teacher.to(scale.dtype), weight_a[of_a], anchors=merge)
        back = _direction(student.T, teacher.T.to(scale.dtype), weight_b[of_b], candidates=merge)
        return (there + back) / 2 + zero


def _direction(
    student: Tensor, teacher: Tensor, weight: Tensor, anchors: Merge | None = None, candidates: Merge | None = None
) -> Tensor:
    """Return the weighted mean of the anchors' divergences. One of the two sides may be shared out."""
    if candidates is None:
        p, q, sums = teacher.log_softmax(1), student.log_softmax(1), 0
    else:
        p = teacher - log_sum_over_parts(teacher, 1, candidates)[:, None]
        sums = log_sum_over_parts(student, 1, candidates)
        q = student - sums.detach()[:, None]
        sums = sums - sums.detach()  # 0, with the gradient that all p of an anchor, 1 in sum, give it
    losses = sum_over_parts((p.exp() * (p - q)).sum(1), candidates) + sums
    return weighted_mean(losses, weight, torch.ones_like(weight, dtype=torch.bool), anchors)


@final
class Distill(ClipTemperature):
    """``distill`` with a learned student temperature, from CLIP's 1/0.07 up to 100. In a config::

        terms:
          learn: {loss: align.losses.Distill, between: [image, text, teacher_image, teacher_text]}

    ``between`` names the student's two modalities and then the teacher's two, in the same order. A teacher is two more
    modalities of the model: its embeddings stand in the shard (``0001.teacher_image.npy``), and its towers are
    ``align.preprocess.Array``, ``align.encoders.Precomputed`` and the head ``align.heads.Identity``. So the model's dim
    is the teacher's width. Scoring reads the student's two by cosine.

    teacher_scale: the teacher's multiplier. start_scale, max_scale, learn_scale: None takes the values above.
    """

    kind = "distill"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self,
        teacher_scale: float = 100.0,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        if not 0 < teacher_scale < math.inf:
            raise ValueError(f"teacher_scale is a positive number; got {teacher_scale}")
        self.teacher_scale = teacher_scale

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
        """Return the 0-d loss of four sets of rows, the student's two and the teacher's two.

        embeddings: (n_m, D). samples: (n_m,). weights likewise. Groups are not read.
        """
        a, b, teacher_a, teacher_b = embeddings
        weight_a, weight_b = weights[:2] if weights else (None, None)
        return distill(
            a,
            b,
            teacher_a,
            teacher_b,
            self.scale,
            self.teacher_scale,
            samples=samples,
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
