"""Vector: an MLP over the columns of a table, numbers and ids, where values may be missing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.values import Features

EXACT = {torch.float16: 2048, torch.bfloat16: 256}  # whole numbers below this are exact


@final
class Vector(Encoder):
    """An MLP over a table's row: (n, columns) -> pooled features without tokens. NaN stands for a missing value.

    A number enters as itself, 0 where it is missing, beside an indicator that is 1 there. Numbers are best of mean 0
    and deviation 1, as ``align.preprocess.Array(missing=True, mean=..., std=...)`` gives them.

    embed: {column: cardinality} of ids from 0 to cardinality - 1, each with an embedding of ``embed_width``. A missing
        id and one out of range share another embedding. YAML: ``embed: {3: 12}``.
    waves: pairs of a sine and a cosine of each number, at learned frequencies (Gorishniy et al. 2022, arXiv:2203.05556,
        section 3.3), drawn with the deviation ``frequency``. They help where small differences
        count, as in coordinates.
    hidden, depth: width of the layers between, and the number of layers, with layer normalisation and GELU between.

    Raises ValueError for a column that is not there, and for ids that the precision of the values does not hold.
    """

    def __init__(
        self,
        columns: int,
        width: int = 128,
        hidden: int = 256,
        depth: int = 3,
        embed: Mapping[int, int] | None = None,
        embed_width: int = 16,
        waves: int = 0,
        frequency: float = 0.5,
        dropout: float = 0.0,
    ):
        super().__init__()
        if min(columns, hidden, depth, embed_width) < 1 or waves < 0:
            given = f"{columns}, {hidden}, {depth}, {embed_width} and {waves}"
            raise ValueError(f"columns, hidden, depth and embed_width are at least 1, waves at least 0; got {given}")
        ids = {int(column): int(count) for column, count in (embed or {}).items()}  # JSON's keys are strings
        for column, count in ids.items():
            if not 0 <= column < columns or count < 1:
                raise ValueError(f"embed has column {column} of {count} ids; columns go from 0 to {columns - 1}")
        self.columns, self.width, self.hidden, self.depth = columns, width, hidden, depth
        self.embed, self.embed_width = ids or None, embed_width
        self.waves, self.frequency, self.dropout = waves, frequency, dropout
        self._most = max(ids.values(), default=0)
        self.tables = nn.ModuleList(nn.Embedding(count + 1, embed_width) for count in ids.values())
        self._numbers = [i for i in range(columns) if i not in ids]
        self.rates = nn.Parameter(torch.randn(len(self._numbers), waves) * frequency) if waves else None
        sizes = [len(self._numbers) * (2 + 2 * waves) + len(ids) * embed_width, *[hidden] * (depth - 1)]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], width))

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 2 or values.shape[1] != self.columns:
            raise ValueError(f"Vector takes (n, {self.columns}), got {tuple(values.shape)}")
        ids = self.embed or {}
        if self._most > EXACT.get(values.dtype, 1 << 24):
            raise ValueError(f"{values.dtype} does not hold ids up to {self._most}; keep the model in float32")
        parts = [self._read_numbers(values[:, self._numbers])]
        for table, (column, count) in zip(self.tables, ids.items(), strict=True):
            each = values[:, column]
            known = (each >= 0) & (each < count)  # NaN is neither
            parts.append(table(torch.where(known, each, count).long()))
        return Features(self.layers(torch.cat(parts, 1)))

    def _read_numbers(self, x: Tensor) -> Tensor:
        """Return (n, F (2 + 2 waves)) of (n, F): numbers, indicators, and waves, which are 0 of a missing number."""
        missing = x.isnan()
        x = x.masked_fill(missing, 0)
        parts = [x, missing.to(x.dtype)]
        if self.rates is not None:
            turns = 2 * torch.pi * x[..., None] * self.rates  # (n, F, waves)
            waves = torch.cat([turns.sin(), turns.cos()], -1).masked_fill(missing[..., None], 0)
            parts.append(waves.flatten(1))
        return torch.cat(parts, 1)
