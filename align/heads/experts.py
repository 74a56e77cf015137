"""Experts: several heads on one encoder, and a gate that sends each row to some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.linear import Linear
from align.heads.tokens import read_tokens
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

    experts: K. heads: one for all experts, a callable of width and dim, or one for each.
    top: the experts that count for a row, 0 for all.

    Raises ValueError for more experts than ``dim``, another number of heads, and a ``top`` above K.
    """

    resamples: ClassVar[bool] = True
    latents: ClassVar[int] = 1

    def __init__(self, width: int, dim: int, experts: int = 2, heads: Sequence[AnyHead] = (Linear,), top: int = 0):
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
        self.gate = nn.Linear(width, experts)
        nn.init.normal_(self.gate.weight, std=0.1 * width**-0.5)
        nn.init.zeros_(self.gate.bias)

    @property
    def heads(self) -> list[nn.Module]:
        """The head of each expert, as the constructor takes them."""
        return list(self.inside)

    def weigh(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights (n, K) of the softmax, and those that count."""
        soft = self.gate(x).softmax(-1)
        if not self.top:
            return soft, soft
        kept = torch.zeros_like(soft).scatter(-1, soft.topk(self.top, -1).indices, 1.0) * soft.detach()
        hard = kept / kept.sum(-1, keepdim=True)
        return soft, hard + (soft - soft.detach())

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        soft, weights = self.weigh(features.pooled)  # (n, K)
        unit = [F.normalize(head(features), dim=-1, eps=1e-6) for head in self.inside]
        pooled = (weights[..., None] * torch.stack(unit, 1)).sum(1)  # (n, K, D) -> (n, D)
        if not tokens:
            return pooled
        read_tokens(features)
        return pooled, F.pad(soft, (0, self.dim - self.experts))[:, None]  # (n, 1, D)
