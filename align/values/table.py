"""A sparse table of samples: the rows of each modality, and the facts of each sample."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, field, fields
from typing import Any, Self, final

import torch
from torch import Tensor

from align.values.rows import Rows, map_tensors


@dataclass
class Table:
    """A sparse table of B samples: a mapping modality -> Rows, and the facts of each sample.

    It is no subclass of dict: Lightning's precision plugins rebuild those and drop their attributes.
    """

    rows: dict[str, Rows]
    ids: list[str]  # B keys; "" where the position is empty (a bad sample)
    position: Tensor  # (B,) int64, the position of each sample in its epoch
    labels: list[Any] = field(default_factory=list)  # B labels as the shard has them, None where it has none
    source: list[str] = field(default_factory=list)  # B names of the source each sample came from
    group: Tensor | None = None  # (B,) int64; samples of one group are never each other's negatives; -1: no group
    weight: Tensor | None = None  # (B,) float32, the factor of each anchor in a loss
    grade: dict[str, Tensor] | None = None  # "audio+points", sorted -> (B,) int64, the place in GRADES; absent: good
    number: Tensor | None = None  # (B,) int64, number of each sample in the training set, or -1, where a loss asks

    @property
    def size(self) -> int:
        """B, the number of positions, with the empty ones."""
        return len(self.ids)

    def __getitem__(self, modality: str) -> Rows:
        return self.rows[modality]

    def __contains__(self, modality: object) -> bool:
        return modality in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def keys(self) -> KeysView[str]:
        return self.rows.keys()

    def items(self) -> ItemsView[str, Rows]:
        return self.rows.items()

    def values(self) -> ValuesView[Rows]:
        return self.rows.values()

    def get(self, modality: str, default: Rows | None = None) -> Rows | None:
        return self.rows.get(modality, default)

    def slice(self, start: int, stop: int) -> Self:
        """Return the samples start..stop-1 with their rows, numbered from 0.

        A stop past the end is the end. Every attribute is cut, and a modality without a row there has n = 0 rows.
        Raises ValueError for a start below 0 or past the stop.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"a slice of a batch has 0 <= start <= stop; got {start} and {stop}")
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        parts |= {name: _cut(x, start, stop) for name, x in parts.items() if name != "rows" and x is not None}
        parts["rows"] = {m: rows.slice(start, stop) for m, rows in self.items()}
        return type(self)(**parts)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{f.name: map_tensors(getattr(self, f.name), function) for f in fields(self)})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return the table as ``Tensor.to`` does. A dtype is given only to floating tensors. On mps no tensor is
        float64, which it lacks."""
        onto = str(kwargs.get("device", args[0] if args else ""))

        def move(x: Tensor) -> Tensor:
            x = x.float() if x.dtype == torch.float64 and onto.startswith("mps") else x
            if x.is_floating_point():
                return x.to(*args, **kwargs)
            rest = {k: v for k, v in kwargs.items() if k != "dtype"}
            return x.to(*(a for a in args if not isinstance(a, torch.dtype)), **rest)

        return self._map(move)

    def pin_memory(self) -> Self:
        return self._map(lambda x: x.pin_memory())

    def share_memory_(self) -> Self:
        return self._map(lambda x: x.share_memory_())


@final
class Batch(Table):
    """Input of the towers: rows as ``preprocess.collate`` made them."""


@final
class Embeddings(Table):
    """Output of the towers: rows whose values are (n, D), L2-normalised unless the model says otherwise."""


def _cut(x: Any, start: int, stop: int) -> Any:
    """Return the samples start..stop-1 of a list, a tensor, or a dict of tensors."""
    return {k: v[start:stop] for k, v in x.items()} if isinstance(x, dict) else x[start:stop]
