"""Fuse: one query vector from whatever modalities are there, by attention over their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Embeddings, Features


@final
class Fuse(nn.Module):
    """Attention over the embeddings of the modalities that are there; one row a sample. In a config::

        query:
          preprocess: {class_path: align.preprocess.Array, init_args: {shape: [1, 192]}}
          encoder: {class_path: align.encoders.Precomputed, init_args: {width: 192}}
          head: {class_path: align.heads.Fuse, init_args: {modalities: 3}}

    A row is the modalities' embeddings end to end, as ``lay_out`` makes them, and a block of zeros is a modality that
    is not there. With w = width / modalities, x_m the block and s_m a learned vector of its modality,

        t_m = A x_m + s_m,   c = mean of t_m over those that are there
        f = mean of x_m + attention of (q + c) over t_m,   output = B (f + MLP(f))

    A term of any pair loss between ``query`` and the wanted modality trains it. In training each modality that is there
    is dropped with the probability ``dropout``, so that every subset is a query that was seen (modality dropout, as in
    Neverova et al. 2015, arXiv 1501.00102, section 4). The last one stays. A row of zeros alone gives the same vector
    for every such row.

    modalities: how many blocks a row has, a divisor of ``width``. heads: of the attention, a divisor of w.
    dropout: 0 to below 1.
    """

    def __init__(self, width: int, dim: int, modalities: int = 2, heads: int = 1, dropout: float = 0.0):
        super().__init__()
        if modalities < 1 or width % modalities:
            raise ValueError(f"modalities must divide width; {width} is no multiple of {modalities}")
        w = width // modalities
        if heads < 1 or w % heads:
            raise ValueError(f"heads must divide the width of a modality; {w} is no multiple of {heads}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is 0 to below 1; got {dropout}")
        self.width, self.dim, self.modalities, self.heads, self.dropout = width, dim, modalities, heads, dropout
        self.slot = nn.Parameter(torch.randn(modalities, w) * w**-0.5)
        self.query = nn.Parameter(torch.randn(w) * w**-0.5)
        self.read = nn.Linear(w, w)
        self.key_value = nn.Linear(w, 2 * w)
        self.mix = nn.Sequential(nn.LayerNorm(w), nn.Linear(w, 4 * w), nn.GELU(), nn.Linear(4 * w, w))
        self.project = nn.Linear(w, dim, bias=False)
        if w == dim:
            nn.init.eye_(self.project.weight)  # the mean of the embeddings is the start
        else:
            nn.init.normal_(self.project.weight, std=w**-0.5)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        pooled = self.fuse(features.pooled)
        return (pooled, self.fuse(read_tokens(features))) if tokens else pooled

    def fuse(self, rows: Tensor) -> Tensor:
        """Return (..., D) for rows (..., width)."""
        x = rows.unflatten(-1, (self.modalities, -1))  # (..., M, w)
        there = self._choose((x != 0).any(-1))[..., None]  # (..., M, 1)
        share = there / there.sum(-2, keepdim=True).clamp(min=1)
        t = self.read(x) + self.slot
        query = self.query + (share * t).sum(-2)  # (..., w)
        key, value = self.key_value(t).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (query[..., None, :], key, value))
        logits = (q * k).sum(-1) * k.shape[-1] ** -0.5  # (..., M, heads)
        # A row without a modality attends to all its empty blocks, as no softmax is of nothing.
        hidden = ~there & there.any(-2, keepdim=True)
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-2)
        f = (share * x).sum(-2) + (weights[..., None] * v).sum(-3).flatten(-2)
        return self.project(f + self.mix(f))

    def _choose(self, there: Tensor) -> Tensor:
        """Return (..., M) bool of the modalities that are read: those that are there, in training less dropped ones."""
        if not self.training or not self.dropout:
            return there
        chance = torch.rand(there.shape, device=there.device)
        last = F.one_hot(chance.masked_fill(~there, -1).argmax(-1), self.modalities).bool()  # one is never dropped
        return there & ((chance >= self.dropout) | last)


def lay_out(embeddings: Embeddings, modalities: Sequence[str]) -> Tensor:
    """Return (B, M · D), the embeddings of each sample end to end in the order of the modalities.

    Several rows of a sample give their mean direction, at their mean length. A modality that a sample lacks is a block
    of zeros. Rows of no sample (-1) are left out. Raises ValueError for a modality without rows.
    """
    blocks = []
    for m in modalities:
        rows = embeddings.get(m)
        if rows is None or not isinstance(rows.values, Tensor):
            raise ValueError(f"no embeddings of {m!r} to lay out; there are {', '.join(embeddings.keys())}")
        real = rows.sample >= 0
        values, sample = rows.values[real], rows.sample[real]
        length = values.norm(dim=1, keepdim=True)
        sums = values.new_zeros(embeddings.size, values.shape[1] + 1)
        sums.index_add_(0, sample, torch.cat([values, length], 1))
        count = torch.bincount(sample, minlength=embeddings.size).clamp(min=1)[:, None]
        blocks.append(F.normalize(sums[:, :-1], dim=1) * (sums[:, -1:] / count))
    return torch.cat(blocks, 1)
