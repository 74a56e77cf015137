"""Rows against one vector a class: learned, given by a file, or running means of the classes' rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.class_vectors import read_vectors
from align.losses.kernels.inputs import Scale, check_embeddings, one_number, row_ids, row_weights
from align.losses.kernels.labels import as_hot, check_labels
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.temperature import ClipTemperature

SIGMOID_SCALE = 10.0


def prototypes(
    x: Tensor,
    labels: Tensor,
    vectors: Tensor,
    scale: Scale,
    bias: Tensor | float | None = None,
    *,
    there: Tensor | None = None,
    sample: Tensor | None = None,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean over the rows of their loss against the vectors p_c of the classes, a 0-d tensor.

    With s_c = scale·⟨x, p_c⟩ and the row's classes Y, the loss of a row is a softmax's,

        -1/|Y| Σ_{y∈Y} log( exp s_y / Σ_c exp s_c ),

    the prototypical term of CAPro (Qin et al. 2023, arXiv 2310.09761) and MeDSLIP (Fan et al. 2024, arXiv 2403.10635).
    With a ``bias`` it is a sigmoid's, Σ_c -log σ(±(s_c + bias)), + for c in Y: every class is a yes or a no.

    When to use it: labels are known, and one row may have several. It costs n·C·D.

    x: (n, D). labels: (n, K) int64, the places of each row's classes, then -1. A row without a class is left out, as is
        a row of id -1. vectors: (C, D), taken as they are.
    there: (C,) bool, the classes that have a vector. The others are neither positive nor negative.
    sample: (n,) ids. weight: (n,) how much each row counts in the mean. part, merge: as in ``infonce``.

    Where no row has a class, the loss is zero and so are all gradients. Raises ValueError for shapes that do not fit,
    and for a label of C or more.
    """
    check_embeddings([x, vectors])
    check_part(part, merge)
    count = len(vectors)
    check_labels(labels, len(x), count)
    with exact(x):
        rows, corners = at_least_float32([x, vectors])
        ids, weights = row_ids(sample, rows, "sample"), row_weights(weight, rows, "weight")
        taken, of, ids, weights = (take_share(y, part) for y in (rows, labels.to(rows.device), ids, weights))
        seen = torch.ones(count, dtype=torch.bool, device=rows.device) if there is None else there.to(rows.device)
        hits = as_hot(of, count) & seen  # (t, C)
        logits = one_number(scale, rows) * taken @ corners.T  # (t, C)
        if bias is None:
            logs = logits.masked_fill(~seen, torch.finfo(logits.dtype).min).log_softmax(1)
            losses = -torch.where(hits, logs, 0).sum(1) / hits.sum(1).clamp(min=1)
        else:
            signed = torch.where(hits, 1, -1) * (logits + one_number(bias, rows, "bias"))
            losses = -torch.where(seen, F.logsigmoid(signed), 0).sum(1)
        zero = nothing(rows, corners, *(y for y in (scale, bias) if isinstance(y, Tensor)))
        return weighted_mean(losses, weights, hits.any(1) & (ids >= 0), merge) + zero


@final
class Prototypes(ClipTemperature):
    """``prototypes`` as a module: each modality's rows alone, against the classes of their labels. In a config::

        terms:
          pairs: {loss: align.losses.InfoNCE, between: all}
          colors:
            loss: {class_path: align.losses.Prototypes, init_args: {attribute: color, form: sigmoid}}
            between: [image, text]

    vectors: one unit vector for each class, shared by the modalities of the term.
        ``learned``: a parameter (C, D), which begins at draws of a fixed seed.
        ``means``: running means of the rows of each class, as in CAPro: p ← m·p + (1 - m)·(mean of the batch's rows),
        in training, after their use. A class counts from its second batch on.
        Otherwise a file of safetensors with a tensor (D,) for each class, by its name: embeddings of prompts, say. They
        stay as they are.
    of: the modality whose rows make the means. ``text`` gives prototypes of the texts, which follow the tower.
        None: all.
    momentum: m. form: ``softmax`` (a row's classes share its positives) or ``sigmoid`` (each class is a yes or a no).
    attribute: of the labels. classes: their names in order. None: those of the training set.
    start_scale, max_scale, learn_scale: as in ``InfoNCE``. A sigmoid begins at 10 and the bias -log(C - 1).

    Scoring does not read it. Raises ValueError for a value that none of these is, for a class that comes twice, and for
    a file that lacks a class or has vectors of another D.
    """

    kind = "classes"
    takes_unpaired = True
    in_parts = True
    needs_labels = True

    def __init__(
        self,
        attribute: str = "label",
        vectors: str = "learned",
        form: Literal["softmax", "sigmoid"] = "softmax",
        of: str | None = None,
        momentum: float = 0.9,
        classes: list[str] | None = None,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        if form not in ("softmax", "sigmoid"):
            raise ValueError(f"form is 'softmax' or 'sigmoid'; got {form!r}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is a number from 0 to below 1; got {momentum}")
        if of is not None and vectors != "means":
            raise ValueError(f"of names the modality of vectors='means'; the vectors are {vectors!r}")
        self.attribute, self.vectors, self.form, self.of, self.momentum = attribute, vectors, form, of, momentum
        self.dim: int | None = None
        self._called: list[str] = []
        if form == "sigmoid":
            self.bias = nn.Parameter(torch.zeros(1))
        self.register_load_state_dict_pre_hook(_make_room)
        if classes:
            self.name_classes(classes)

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes, and make their vectors where D is known. Raises ValueError for one that comes twice."""
        if len({*names}) < len(names):
            raise ValueError(f"the class {next(n for i, n in enumerate(names) if n in names[:i])!r} comes twice")
        self.classes = [*names]
        self._make()

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set the scale, and make the vectors where the classes are known."""
        self.dim = dim
        super().start(dim, modalities, batch)
        if self.form == "sigmoid":
            self._set(SIGMOID_SCALE, self.limit)
        self._make()

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modality of the next call. Raises ValueError where all were called and none is ``of``."""
        (name,) = modalities
        if name in self._called and self.of not in (None, *self._called):
            raise ValueError(f"of names {self.of!r}; the term is between {', '.join(self._called)}")
        self._called = [*(n for n in self._called if n != name), name]

    def _make(self) -> None:
        """Make the vectors (C, D) and, of means, the record of the classes that have one."""
        if not self.classes or self.dim is None:
            return
        count, like = len(self.classes), self.scale.detach()  # in float32 at least
        if hasattr(self, "rows") and self.rows.shape == (count, self.dim):  # of a checkpoint, say
            return
        if self.bias is not None:
            with torch.no_grad():
                self.bias.fill_(-math.log(max(count - 1, 1)))
        if self.vectors == "learned":
            draws = torch.randn(count, self.dim, generator=torch.Generator().manual_seed(0)) / self.dim**0.5
            self.rows = nn.Parameter(draws.to(like))
        elif self.vectors == "means":
            self.register_buffer("rows", like.new_zeros(count, self.dim))
            self.register_buffer("there", like.new_zeros(count, dtype=torch.bool))
        else:
            self.register_buffer("rows", read_vectors(self.vectors, self.classes, self.dim).to(like))

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

        Raises ValueError without labels, and before the vectors are made.
        """
        check_part(part, merge)
        if labels is None:
            raise ValueError("Prototypes reads labels: call it with labels=[places of the classes (n, K)]")
        if not hasattr(self, "rows"):
            raise ValueError("Prototypes has no vectors yet: call start(dim, ...) and name_classes([...])")
        (x,), (sample,), (of,) = embeddings, samples, labels
        there, weight = getattr(self, "there", None), weights[0] if weights else None
        unit = F.normalize(at_least_float32([self.rows])[0], dim=1, eps=1e-6)
        loss = prototypes(
            x, of, unit, self.scale, self.bias, there=there, sample=sample, weight=weight, part=part, merge=merge
        )
        if self.training and there is not None and self.of in (None, *self._called[-1:]):
            self._follow(x.detach(), torch.where((sample >= 0)[:, None], of, -1))
        return loss

    @torch.no_grad()
    def _follow(self, x: Tensor, of: Tensor) -> None:
        """Move the means of the classes of rows (n, D) with places (n, K). A row that is not finite does not count."""
        i, k = ((of >= 0) & x.isfinite().all(1, keepdim=True)).nonzero(as_tuple=True)
        place, rows = of[i, k], x[i].to(self.rows.dtype)
        count = self.rows.new_zeros(len(self.rows)).index_add(0, place, torch.ones_like(rows[:, 0]))
        mean = torch.zeros_like(self.rows).index_add(0, place, rows) / count.clamp(min=1)[:, None]
        moved = torch.where(self.there[:, None], self.momentum * self.rows + (1 - self.momentum) * mean, mean)
        self.rows = torch.where((count > 0)[:, None], moved, self.rows)
        self.there = self.there | (count > 0)


def _make_room(module: Prototypes, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Make vectors of the shape of a state that is about to be loaded, where there are none yet."""
    for name in ("rows", "there"):
        value = state.get(prefix + name)
        if value is None or hasattr(module, name):
            continue
        empty = torch.empty_like(value, device=module.log_scale.device)
        if name == "rows" and module.vectors == "learned":
            module.rows = nn.Parameter(empty)
        else:
            module.register_buffer(name, empty)
