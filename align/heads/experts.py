"""Experts: several heads on one encoder. A gate, or the label of a row's sample, chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.heads.tokens import read_tokens
from align.losses.kernels.labels import as_hot
from align.values import Features


@final
class Experts(nn.Module):
    """``Σ_k w_k(x) · u(head_k(x))``, where u makes unit vectors and w is a softmax of the row's features x.

    It is a mixture of experts (Shazeer et al. 2017, arXiv:1701.06538, section 2) over heads.

    ``top`` experts count, with their weights divided by their sum, and the gradient to the gate is that of all weights
    (a straight-through estimate: with one expert the weight is 1, and says nothing to the gate otherwise). All heads
    run, as a head is cheap: this saves no time.

    The gate learns from the terms. ``align.losses.Balance`` keeps it from sending all rows to one expert (Fedus et al.
    2022, arXiv:2101.03961, section 2.2). ``align.losses.Route`` teaches it an attribute of the labels, such as the
    domain of a sample: a query needs no label then. Both read the weights: with ``tokens`` a row has one token, whose
    first K numbers are its weights w. So a term that reads the tokens of a tower cannot stand beside them.

    With an ``attribute`` of the labels the json of a sample decides, in training and in evaluation: a row goes to the
    expert of its class, and to the mean of several. Such a row teaches the gate nothing, ``Route`` does. A query has no
    label: ``align.model.domains.in_domain(model, "digits")`` embeds rows of one class. ``unlabelled`` says what
    becomes of other rows: "refuse" raises an error and has no gate, "gate" asks the gate, which ``Route`` has to teach.

    experts: K. heads: one for all experts, a callable of width and dim, or one for each.
    top: the experts that count for a row of the gate, 0 for all.
    attribute: of the labels. None: the gate chooses for every row. classes: its names in order, expert k's the k-th.
    None: those of the training set.

    Raises ValueError for more experts than ``dim``, another number of heads, a ``top`` above K, and more classes than
    experts. A call raises it where there is neither a label nor a gate.
    """

    resamples: ClassVar[bool] = True
    latents: ClassVar[int] = 1

    def __init__(
        self,
        width: int,
        dim: int,
        experts: int = 2,
        heads: Sequence[AnyHead] = (Linear,),
        top: int = 0,
        attribute: str | None = None,
        classes: Sequence[str] | None = None,
        unlabelled: Literal["refuse", "gate"] = "refuse",
    ):
        super().__init__()
        if not 1 <= experts <= dim:
            raise ValueError(
                f"a token holds the weights of the experts, so they are from 1 to dim, {dim}; got {experts}"
            )
        if len(heads) not in (1, experts) or (len(heads) < experts and isinstance(heads[0], nn.Module)):
            raise ValueError(f"{experts} experts take one callable, or a head for each; got {len(heads)} heads")
        each = [*heads] * experts if len(heads) == 1 else [*heads]
        if not 0 <= top <= experts:
            raise ValueError(f"top is a number of the {experts} experts, 0 for all; got {top}")
        self.width, self.dim, self.experts, self.top = width, dim, experts, top
        self.inside = nn.ModuleList([make_inner(one, width, dim) for one in each])
        if unlabelled not in ("refuse", "gate"):
            raise ValueError(f"unlabelled is 'refuse' or 'gate'; got {unlabelled!r}")
        if classes is not None and attribute is None:
            raise ValueError(f"classes are those of an attribute of the labels, which is not given; got {[*classes]}")
        self.attribute, self.unlabelled = attribute, unlabelled
        self.only: int | None = None  # the expert of every row, in the view of ``align.model.domains.in_domain``
        self.classes: list[str] | None = None
        if classes is not None:
            self.name_classes(classes)
        self.gate = None
        if attribute is None or unlabelled == "gate":
            self.gate = nn.Linear(width, experts)
            nn.init.normal_(self.gate.weight, std=0.1 * width**-0.5)
            nn.init.zeros_(self.gate.bias)

    @property
    def heads(self) -> list[nn.Module]:
        """The head of each expert, as the constructor takes them."""
        return list(self.inside)

    @property
    def needs_labels(self) -> bool:
        """True where the head asks for the classes of each row's sample."""
        return self.attribute is not None and self.only is None

    def name_classes(self, names: Sequence[str]) -> None:
        """Name the classes of the attribute. Raises ValueError for more than there are experts."""
        if len(names) > self.experts:
            raise ValueError(f"{len(names)} classes of {self.attribute!r} need as many experts; got {self.experts}")
        self.classes = [*names]

    def find_weights(self, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weights (n, K) of the softmax, and those that count. labels: (n, L) places of classes, then -1."""
        hot = None if labels is None else as_hot(labels, self.experts).to(x.dtype)
        if self.only is not None:
            hot = F.one_hot(torch.tensor(self.only, device=x.device), self.experts).to(x.dtype).expand(x.shape[0], -1)
        chosen = None if hot is None else hot / hot.sum(-1, keepdim=True).clamp(min=1)
        if self.gate is None:
            if chosen is None and x.shape[0]:
                raise ValueError(self._say_missing())
            chosen = x.new_zeros(x.shape[0], self.experts) if chosen is None else chosen
            return chosen, chosen
        soft = self.gate(x).softmax(-1)
        counted = soft
        if self.top:
            kept = torch.zeros_like(soft).scatter(-1, soft.topk(self.top, -1).indices, 1.0) * soft.detach()
            counted = kept / kept.sum(-1, keepdim=True) + (soft - soft.detach())
        if hot is None or chosen is None:
            return soft, counted
        return soft, torch.where(hot.any(-1, keepdim=True), chosen, counted)

    def forward(
        self, features: Features, tokens: bool = False, labels: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        soft, weights = self.find_weights(features.pooled, labels)  # (n, K)
        unit = [F.normalize(head(features), dim=-1, eps=1e-6) for head in self.inside]
        pooled = (weights[..., None] * torch.stack(unit, 1)).sum(1)  # (n, K, D) -> (n, D)
        if not tokens:
            return pooled
        read_tokens(features)
        return pooled, F.pad(soft, (0, self.dim - self.experts))[:, None]  # (n, 1, D)

    def _say_missing(self) -> str:
        known = ", ".join(self.classes or ()) or "none yet"
        return (
            f"Experts sends a row to the expert of its {self.attribute!r} ({known}), and these rows name none: embed "
            "them with align.model.domains.in_domain(model, NAME), or train a gate for them (unlabelled: gate)"
        )
