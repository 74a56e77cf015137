"""Cross-entropy against the fixed vertices of a regular simplex, one for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.inputs import Scale, check_embeddings, one_number, row_ids, row_weights
from align.losses.kernels.labels import check_labels
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def simplex_vertices(count: int, dim: int) -> Tensor:
    """Return unit vectors (count, dim) in float64, any two of which have the cosine -1 / (count - 1).

    The d + 1 vertices of a d-simplex are the unit vectors e_1 … e_d and α·Σ e_i with α = (1 - √(d + 1)) / d, less their
    mean and normalised (Pernici et al. 2021, Regular Polytope Networks, arXiv 2103.15632, section 3.2). The coordinates
    past d = count - 1 are zero.

    Raises ValueError for fewer than two, and where ``dim`` is below count - 1.
    """
    d = count - 1
    if d < 1:
        raise ValueError(f"a simplex has 2 vertices at least; got {count}")
    if dim < d:
        raise ValueError(f"{count} vertices of a simplex need {d} coordinates; the embeddings have {dim}")
    one = torch.ones(1, d, dtype=torch.float64)
    corners = torch.cat([torch.eye(d, dtype=torch.float64), one * (1 - math.sqrt(d + 1)) / d])  # (count, d)
    return F.pad(F.normalize(corners - corners.mean(0), dim=1), (0, dim - d))


def simplex(
    x: Tensor,
    labels: Tensor,
    count: int,
    scale: Scale = 16.0,
    *,
    sample: Tensor | None = None,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean over the rows of -1/|Y_i| Σ_{y∈Y_i} log( exp s·⟨x_i, w_y⟩ / Σ_c exp s·⟨x_i, w_c⟩ ); a 0-d tensor.

    w_c are the ``count`` vertices of a regular simplex, which nothing trains (Biondi et al. 2024, Stationary
    Representations, arXiv 2405.02581, the d-simplex fixed classifier). Models that are trained apart put a class in the
    same place, so their embeddings can be compared. The paper's second term, which compares with the old model's
    features, is a term of its own here, such as ``Regress``.

    When to use it: labels are known, and embeddings of a later model are to meet those of an earlier one. It costs
    n·count·D.

    x: (n, D). labels: (n, K) int64, the places of each row's classes, then -1. A row without a class is left out, as is
        a row of id -1. Several classes are averaged.
    count: the vertices. Those without a class are reserved for later ones.
    scale: s, a float or a tensor of one element. sample: (n,) ids. weight: (n,) how much each row counts in the mean.
    part, merge: as in ``infonce``. A part takes its share of the rows.

    Where no row has a class, the loss is zero and so are all gradients. Raises ValueError for shapes that do not fit,
    and for a label of ``count`` or more.
    """
    check_embeddings([x])
    check_part(part, merge)
    check_labels(labels, len(x), count)
    with exact(x):
        (rows,) = at_least_float32([x])
        ids, weights = row_ids(sample, rows, "sample"), row_weights(weight, rows, "weight")
        corners = simplex_vertices(count, rows.shape[1]).to(rows)  # (count, D)
        taken, of, ids, weights = (take_share(y, part) for y in (rows, labels.to(rows.device), ids, weights))
        logs = (one_number(scale, rows) * taken @ corners.T).log_softmax(1)  # (t, count)
        known = (of >= 0) & (ids >= 0)[:, None]  # (t, K)
        total = torch.where(known, logs.gather(1, of.clamp(min=0)), 0).sum(1)
        losses = -total / known.sum(1).clamp(min=1)
        return weighted_mean(losses, weights, known.any(1), merge) + nothing(rows)


@final
class Simplex(Loss):
    """``simplex`` as a module: each modality's rows alone, against the classes of their labels. In a config::

        terms:
          pairs: {loss: align.losses.InfoNCE, between: all}
          classes:
            loss: {class_path: align.losses.Simplex, init_args: {attribute: shape, size: 16}}
            between: [image, text]

    Two models are compatible where ``attribute``, ``size`` and the order of the classes are the same in both. A model
    with more classes than an earlier one names ``classes`` with the new ones at the end. Scoring does not read it.

    attribute: of the labels. A plain label is the attribute "label".
    size: the vertices, from 2 to D + 1. None: as many as there are classes.
    classes: their names in order. None: those of the training set, in the order of its manifest.
    start_scale: s, which is not learned.

    Raises ValueError for more classes than vertices or than D + 1, for a class that comes twice, and for another scale.
    """

    kind = "classes"
    takes_unpaired = True
    in_parts = True
    needs_labels = True
    fixed: Tensor

    def __init__(
        self,
        attribute: str = "label",
        size: int | None = None,
        classes: list[str] | None = None,
        start_scale: float = 16.0,
    ):
        super().__init__()
        if size is not None and size < 2:
            raise ValueError(f"size is 2 vertices at least; got {size}")
        if not 0 < start_scale < math.inf:
            raise ValueError(f"start_scale is a positive number; got {start_scale}")
        self.attribute, self.size, self.start_scale = attribute, size, start_scale
        self.dim: int | None = None
        self.register_buffer("fixed", torch.full((1,), float(start_scale)), persistent=False)
        if classes:
            self.name_classes(classes)

    @property
    def scale(self) -> Tensor:
        """Return the multiplier, (1,), which is not learned."""
        return cast(Tensor, self.fixed)

    @property
    def count(self) -> int:
        """Number of vertices. 0 where the classes are not known yet."""
        return self.size or len(self.classes)

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes. Raises ValueError for more than there are vertices, or for one that comes twice."""
        if len({*names}) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise ValueError(f"the class {twice!r} comes twice")
        if self.size is not None and len(names) > self.size:
            raise ValueError(f"{len(names)} classes need a size of as many vertices; size is {self.size}")
        _check_size(self.size or len(names), self.dim)
        self.classes = [*names]

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Keep D. Raises ValueError for more vertices than D + 1."""
        if self.count:
            _check_size(self.count, dim)
        self.dim = dim

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        labels: Sequence[Tensor] | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of one set of rows: embeddings (n, D), samples (n,), labels (n, K). Groups are not read.

        Raises ValueError without labels.
        """
        if labels is None:
            raise ValueError("Simplex reads labels: call it with labels=[places of the classes (n, K)]")
        (x,), (sample,), (of,) = embeddings, samples, labels
        weight = weights[0] if weights else None
        return simplex(x, of, self.count, self.scale, sample=sample, weight=weight, part=part, merge=merge)


def _check_size(count: int, dim: int | None) -> None:
    if dim is not None and count > dim + 1:
        raise ValueError(f"embeddings of {dim} numbers hold a simplex of {dim + 1} vertices at most; got {count}")
