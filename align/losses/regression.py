"""Regression onto a frozen teacher's embedding of the same input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final, get_args

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_ids, row_weights
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import counterparts, weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss

Distance = Literal["cosine", "squared", "absolute"]


def regress(
    a: Tensor,
    teacher: Tensor,
    *,
    distance: Distance = "cosine",
    sample_a: Tensor | None = None,
    sample_teacher: Tensor | None = None,
    weight_a: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean distance of each row from the teacher's embedding of the same input; a 0-d tensor.

    "cosine": 1 - cos(a_i, t_i). "squared": |a_i - t_i|², the feature distillation of CLIP-KD (Yang et al. 2023, arXiv
    2307.12732) summed over D. For unit vectors it is twice the other. "absolute": |a_i - t_i|₁, the sum over D, which
    PromptSRC holds prompted rows near frozen ones by (Khattak et al. 2023, arXiv:2307.06948, equation 3).

    When to use it: where the student is to live in the teacher's space, so that it can be searched with the teacher's
    other towers. ``distill`` leaves the student a space of its own. It needs no negatives, so any batch size will do,
    and it costs n·D.

    a: (n, D). teacher: (n', D), which gets no gradient. Distances are float32 at least, autocast or not.
    sample_a, sample_teacher: ids. Without ids, row i belongs to sample i. The k-th row of a sample and the teacher's
        k-th row of it are of one input. Rows without a counterpart are left out, as are rows of id -1.
    weight_a: (n,) how much each row counts in the mean.
    part, merge: as in ``infonce``. A part takes its share of the pairs.

    Where nothing pairs, the loss is zero and so are all gradients. Raises ValueError for shapes and options that do not
    fit.
    """
    check_embeddings([a, teacher])
    _check_distance(distance)
    check_part(part, merge)
    with exact(a):
        a, t = at_least_float32([a, teacher])
        weight = row_weights(weight_a, a, "weight_a")
        of_a, of_teacher = counterparts(row_ids(sample_a, a, "sample_a"), row_ids(sample_teacher, t, "sample_teacher"))
        of_a, of_teacher = (take_share(rows, part) for rows in (of_a, of_teacher))
        student, target = a[of_a], t.detach()[of_teacher]  # (P, D)
        if distance == "cosine":
            losses = 1 - torch.cosine_similarity(student, target, dim=1)
        else:
            apart = student - target
            losses = apart.square().sum(1) if distance == "squared" else apart.abs().sum(1)
        mean = weighted_mean(losses, weight[of_a], torch.ones_like(losses, dtype=torch.bool), merge)
        return mean + nothing(a, t)


def _check_distance(distance: str) -> None:
    if distance not in get_args(Distance):
        raise ValueError(f"distance is {' or '.join(map(repr, get_args(Distance)))}; got {distance!r}")


@final
class Regress(Loss):
    """``regress`` as a module. In a config::

        terms:
          copy: {loss: align.losses.Regress, between: [[image, teacher_image], [text, teacher_text]]}

    Each pair names the student first and then its teacher. The teacher may be any modality of the model: a precomputed
    one, as for ``Distill``, or another tower, which this term leaves as it is.

    distance: as in ``regress``.
    """

    kind = "regress"
    takes_unpaired = True
    in_parts = True

    def __init__(self, distance: Distance = "cosine"):
        super().__init__()
        _check_distance(distance)
        self.distance: Distance = distance

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
        """Return the 0-d loss of two sets of rows, the student's and the teacher's.

        embeddings: (n_m, D). samples: (n_m,). weights likewise. Groups are not read.
        """
        (a, teacher), (sample_a, sample_teacher) = embeddings, samples
        return regress(
            a,
            teacher,
            distance=self.distance,
            sample_a=sample_a,
            sample_teacher=sample_teacher,
            weight_a=weights[0] if weights else None,
            part=part,
            merge=merge,
        )
