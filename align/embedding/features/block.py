"""Blocks of a part: up to 1,024 consecutive positions as one safetensors and one JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from align.data.bad import Bad
from align.embedding.features.encode import Encoded
from align.files import json_text


@final
@dataclass
class Block:
    """Rows and facts of consecutive positions of a shard.

    start: the first position. keys, labels, groups, weights: of each position. source: the shard's file name. rows:
    modality -> encoded rows of each batch. bad: faults and holes, by position.
    """

    start: int
    source: str
    keys: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)
    rows: dict[str, list[Encoded]] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Positions so far."""
        return len(self.keys)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their names in the file."""
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
            out["weight"] = torch.tensor([1.0 if w is None else w for w in self.weights], dtype=torch.float32)
        return out

    def write(self) -> tuple[bytes, bytes]:
        """Return the bytes of ``NNNNNN.block.safetensors`` and of ``NNNNNN.block.json``."""
        from safetensors.torch import save

        about = {
            "start": self.start,
            "count": self.count,
            "keys": self.keys,
            "labels": self.labels,
            "source": [self.source] * self.count,
            "bad": [list(bad) for bad in plain(self.bad)],
        }
        return save(self.tensors()), json_text(about).encode()


def plain(bad: Sequence[Bad]) -> list[tuple[int, str, str]]:
    """Return (position, reason, member) of each."""
    return sorted((each.position, each.reason, each.member) for each in bad)
