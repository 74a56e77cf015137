"""Blocks of a part: the rows and facts of up to 1,024 consecutive positions of a shard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from align.data.bad import Bad
from align.embedding.features.encode import Encoded


@final
@dataclass
class Block:
    """Rows and facts of consecutive positions of a shard.

    start: the first position. source: the shard's file name. keys, labels, groups, weights, grades: of each position.
    rows: modality -> the encoded rows of each batch. bad: faults and holes.
    """

    start: int
    source: str
    keys: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)
    grades: list[dict[str, str]] = field(default_factory=list)
    rows: dict[str, list[Encoded]] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of positions so far."""
        return len(self.keys)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names in the file (``align.data.columns.part``)."""
        out: dict[str, Tensor] = {}
        for m, parts in self.rows.items():
            out[f"{m}.values"] = torch.cat([part.values for part in parts])
            out[f"{m}.sample"] = torch.cat([part.sample for part in parts])
            tokens = [part.tokens for part in parts if part.tokens is not None]
            lengths = [part.lengths for part in parts if part.lengths is not None]
            if tokens:
                out[f"{m}.tokens"] = torch.cat(tokens)
                out[f"{m}.offset"] = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(lengths).cumsum(0)])
        if any(group >= 0 for group in self.groups):
            out["group"] = torch.tensor(self.groups, dtype=torch.int64)
        if any(weight is not None for weight in self.weights):
            stated = [math.nan if weight is None else weight for weight in self.weights]
            out["weight"] = torch.tensor(stated, dtype=torch.float32)
        return out

    def about(self) -> dict[str, Any]:
        """Return the facts beside the tensors."""
        graded = {"grades": self.grades} if any(self.grades) else {}
        return {
            "keys": self.keys,
            "labels": self.labels,
            "source": [self.source] * self.count,
            "bad": list_bad(self.bad),
            **graded,
        }


def list_bad(found: Sequence[Bad]) -> list[tuple[int, str, str]]:
    """Return (position, reason, member) of each, in order."""
    return sorted((bad.position, bad.reason, bad.member) for bad in found)
