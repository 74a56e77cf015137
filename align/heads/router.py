"""Router: rows of several frozen spaces, projected into one and summed with weights that depend on the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.mlp import MLP
from align.heads.tokens import read_tokens
from align.values import Features


@final
class Router(nn.Module):
    """``Σ_k w_k(x) · u(head_k(x_k))``, where u makes unit vectors and x_k is the row in space k (OmniBind, Wang et al.
    2024, arXiv:2407.11895, its projectors and its routing of weights).

    A row is the embeddings of one item in K spaces, side by side: (n, ΣW_k), as ``align.bind.join_spaces`` writes them.
    The weights are a softmax over the spaces, of a net with one hidden layer that reads the whole row. They begin
    equal. A space whose part of the row is zero is absent: its weight is zero. A row without any space is zero.

    With ``tokens`` a row's tokens hold the weights: the first K numbers of each, then zeros. ``align.losses.Decouple``
    reads them.

    widths: W_k of each space. None: a single space. heads: one for all spaces, a callable of width and dim, or one for
    each. hidden: width of the router's hidden layer. route: False for equal weights.

    Raises ValueError for widths that do not sum to ``width``, for another number of heads, and for more spaces than
    ``dim``.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        widths: Sequence[int] | None = None,
        heads: Sequence[AnyHead] = (MLP,),
        hidden: int = 64,
        route: bool = True,
    ):
        super().__init__()
        sizes = [width] if widths is None else [*widths]
        if sum(sizes) != width or min(sizes, default=0) < 1:
            raise ValueError(f"the spaces' widths {sizes} sum to {sum(sizes)}; a row has {width} numbers")
        if len(heads) not in (1, len(sizes)) or (len(heads) < len(sizes) and isinstance(heads[0], nn.Module)):
            raise ValueError(f"{len(sizes)} spaces take one callable, or a head for each; got {len(heads)} heads")
        if len(sizes) > dim:
            raise ValueError(
                f"a token holds the weights of the spaces, so they are at most dim, {dim}; got {len(sizes)}"
            )
        self.width, self.dim, self.widths, self.hidden, self.route = width, dim, sizes, hidden, route
        each = [*heads] * len(sizes) if len(heads) == 1 else [*heads]
        self.inside = nn.ModuleList([make_inner(head, w, dim) for head, w in zip(each, sizes, strict=True)])
        self.gate = None
        if route and len(sizes) > 1:
            last = nn.Linear(hidden, len(sizes))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.gate = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), last)

    @property
    def heads(self) -> list[nn.Module]:
        """The head of each space, as the constructor takes them."""
        return list(self.inside)

    def find_weights(self, x: Tensor) -> Tensor:
        """Return the weights of the spaces, (..., K), for rows (..., ΣW_k). They sum to 1, or are all zero."""
        there = torch.stack([part.detach().any(-1) for part in x.split(self.widths, -1)], -1)  # (..., K)
        logits = there.to(x.dtype) * 0 if self.gate is None else self.gate(x)
        low = torch.finfo(logits.dtype).min
        return logits.masked_fill(~there, low).softmax(-1) * there

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        x = features.pooled
        weights = self.find_weights(x)  # (n, K)
        parts = zip(self.inside, x.split(self.widths, -1), strict=True)
        unit = [F.normalize(head(Features(part)), dim=-1, eps=1e-6) for head, part in parts]
        pooled = (weights[..., None] * torch.stack(unit, 1)).sum(1)  # (n, K, D) -> (n, D)
        if not tokens:
            return pooled
        each = self.find_weights(read_tokens(features))  # (n, L, K)
        return pooled, F.pad(each, (0, self.dim - each.shape[-1]))
