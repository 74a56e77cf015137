"""Terms of the gate of ``align.heads.Experts``: a balance of its experts, and an attribute that it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.inputs import row_ids, row_weights
from align.losses.kernels.labels import as_hot
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss

LEAST = 1e-6  # of a weight under the logarithm


def balance(
    weights_of: Tensor,
    *,
    sample: Tensor | None = None,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return K Σ_k f_k P_k, a 0-d tensor: f_k is the share of rows whose largest weight is k's, P_k the mean of w_k.

    It is 1 where all experts are used alike, K where one has all rows (Fedus et al. 2022, Switch Transformers, arXiv
    2101.03961, equations 4 to 6). f has no gradient.

    weights_of: (n, K), at least 0. A row is divided by its sum, and one of zeros is left out, as is a row of id -1.
    sample: (n,) ids. weight: (n,) how much each row counts. part, merge: as in ``infonce``.
    """
    check_part(part, merge)
    with exact(weights_of):
        (w,) = at_least_float32([weights_of])
        ids, counts = row_ids(sample, w, "sample"), row_weights(weight, w, "weight")
        total = w.sum(1, keepdim=True)
        found = (total[:, 0].detach() > 0) & (ids >= 0)
        w = w / torch.where(total > 0, total, 1)
        counts = torch.where(found, counts, 0)
        chosen = F.one_hot(w.detach().argmax(1), w.shape[1]).to(w) if len(w) else w.detach()
        shares = (counts[:, None] * chosen).sum(0) / counts.sum().clamp(min=torch.finfo(w.dtype).tiny)  # (K,)
        rows, counted, there = (take_share(x, part) for x in (w, counts, found))
        return weighted_mean(w.shape[1] * rows @ shares, counted, there, merge) + nothing(w)


def route(
    weights_of: Tensor,
    labels: Tensor,
    *,
    sample: Tensor | None = None,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean over the rows of -log Σ_{k in Y} w_k, a 0-d tensor, where Y are the row's classes.

    weights_of: as in ``balance``. labels: (n, K') places of each row's classes, class k is of expert k, then -1. A row
    without a class is left out, as is one of id -1. A weight below 1e-6 counts as 1e-6. Raises ValueError for a class
    without an expert.
    """
    check_part(part, merge)
    experts = weights_of.shape[1]
    if labels.numel() and int(labels.max()) >= experts:
        raise ValueError(f"there are {experts} experts, one for each class; got the class {int(labels.max())}")
    with exact(weights_of):
        (w,) = at_least_float32([weights_of])
        ids, counts = row_ids(sample, w, "sample"), row_weights(weight, w, "weight")
        w, of, ids, counts = (take_share(x, part) for x in (w, labels.to(w.device), ids, counts))
        hits = as_hot(of, experts)  # (t, experts)
        total = w.sum(1)
        share = torch.where(hits, w, 0).sum(1) / torch.where(total > 0, total, 1)
        return weighted_mean(-share.clamp(min=LEAST).log(), counts, hits.any(1) & (ids >= 0), merge) + nothing(w)


class _OfGate(Loss):
    """Abstract: a term of a modality whose head is ``Experts``."""

    kind = "classes"
    needs_tokens = True
    takes_unpaired = True
    in_parts = True

    def __init__(self, experts: int):
        super().__init__()
        if experts < 1:
            raise ValueError(f"experts is the number of the head's, at least 1; got {experts}")
        self.experts = experts

    def _read(self, embeddings: Sequence[Tensor], tokens: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the gate's weights (n, K), which a unit token holds in its first numbers."""
        ((each, _),) = tokens
        if each.shape[2] < self.experts:
            raise ValueError(f"a token of {each.shape[2]} numbers cannot hold the weights of {self.experts} experts")
        return each[:, 0, : self.experts].abs() + nothing(embeddings[0], each)


@final
class Balance(_OfGate):
    """``balance`` as a module: each modality alone, whose head is ``align.heads.Experts`` of K ``experts``. ::

        terms:
          pairs: {loss: align.losses.InfoNCE, between: [image, text]}
          balance: {loss: {class_path: align.losses.Balance, init_args: {experts: 4}}, between: [image], weight: 0.01}

    Scoring does not read it. Raises ValueError for no expert, and for rows of fewer numbers.
    """

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        tokens: Sequence[tuple[Tensor, Tensor]],
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of one set of rows: tokens (n, 1, D), samples (n,) and weights (n,)."""
        w, weight = self._read(embeddings, tokens), weights[0] if weights else None
        return balance(w, sample=samples[0], weight=weight, part=part, merge=merge)


@final
class Route(_OfGate):
    """``route`` as a module: the gate of ``align.heads.Experts`` learns an attribute of the labels, a class an expert.

    In a config:

        domain:
          loss: {class_path: align.losses.Route, init_args: {experts: 2, attribute: domain}}
          between: [image]

    attribute: of the labels. classes: their names in order, expert k's the k-th. None: those of the training set.

    Scoring does not read it. Raises ValueError for no expert, for more classes than experts, and without labels.
    """

    needs_labels = True

    def __init__(self, experts: int, attribute: str = "label", classes: list[str] | None = None):
        super().__init__(experts)
        self.attribute = attribute
        if classes:
            self.name_classes(classes)

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes. Raises ValueError for more than there are experts."""
        if len(names) > self.experts:
            raise ValueError(f"{len(names)} classes of {self.attribute!r} need as many experts; got {self.experts}")
        super().name_classes(names)

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        tokens: Sequence[tuple[Tensor, Tensor]],
        labels: Sequence[Tensor] | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of one set of rows: tokens (n, 1, D), samples (n,), weights (n,), labels (n, K)."""
        if labels is None:
            raise ValueError("Route reads labels: call it with labels=[places of the classes (n, K)]")
        w, weight = self._read(embeddings, tokens), weights[0] if weights else None
        return route(w, labels[0], sample=samples[0], weight=weight, part=part, merge=merge)
