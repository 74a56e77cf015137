"""What flows: Sample, Rows, Batch, Features, Embeddings, TermInfo, Scores and BadSample.

Letters, used everywhere: B samples on this rank, N samples on all ranks, n rows of a modality, D shared dim, W encoder
width, L tokens, T time, C H W as torch has them, P points.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor

Values = Tensor | dict[str, Tensor]

Sample = dict[str, Any]
"""One example as read from a shard: member name -> bytes, plus "__key__", "__url__" and "__index__", its position in
the epoch."""

Scores = dict[str, float]
"""Flat names with slashes: ``"image_to_text/recall@1"``."""


class BadSample(Exception):
    """A member that cannot become a row. ``reason`` is a short name with its modality: ``image/truncated``."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # survives the way from a data worker to the main process
        return type(self), (self.reason, self.detail)


class Rows(NamedTuple):
    """n rows of one modality.

    values: (n, ...), or a dict of such tensors.
    sample: (n,) int64, the sample 0..B-1 of this rank that each row belongs to; -1 matches nothing (a hard negative).
    tokens: (n, L, D) and mask: (n, L) bool, true where a token is real; present where a loss asked for them.
    content: (n,) int64, equal where two rows were read from equal content; present where an evaluation asked for it.
    """

    values: Values
    sample: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    content: Tensor | None = None

    @property
    def n(self) -> int:
        """How many rows (``len`` counts the tuple's fields)."""
        return len(self.sample)


class Features(NamedTuple):
    """What an encoder returns. pooled: (n, W); tokens: (n, L, W) or None; mask: (n, L) bool or None, true = real."""

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


class TermInfo(NamedTuple):
    """What scoring needs to know of a trained term of the objective."""

    modalities: tuple[str, ...]
    kind: str  # "pairwise" or "symile" (scale·<a, b, ...> + bias), "volume" or "area" (-scale·it), "tokens" (no score)
    scale: float
    bias: float = 0.0


@dataclass
class Table:
    """A sparse table of B samples: a mapping modality -> Rows, and what is known of each sample.

    No subclass of dict: Lightning's precision plugins rebuild those and drop what hangs on them.
    """

    rows: dict[str, Rows]
    ids: list[str]  # B keys; "" where the position is empty (a bad sample)
    position: Tensor  # (B,) int64, the position of each sample in its epoch
    labels: list[Any] = field(default_factory=list)  # B labels as the shard has them, None where it has none
    source: list[str] = field(default_factory=list)  # B names of the source each sample came from
    group: Tensor | None = None  # (B,) int64; samples of one group are never each other's negatives; -1: no group
    weight: Tensor | None = None  # (B,) float32: how much an anchor counts

    @property
    def size(self) -> int:
        """B, the number of positions, empty ones included."""
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

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        def walk(x: Any) -> Any:
            if isinstance(x, Tensor):
                return function(x)
            if isinstance(x, Rows):
                return Rows(*(walk(part) for part in tuple(x)))
            if isinstance(x, dict):
                return {k: walk(v) for k, v in x.items()}
            return x

        return type(self)(**{f.name: walk(getattr(self, f.name)) for f in fields(self)})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As ``Tensor.to``; a dtype is given only to floating tensors."""

        def move(x: Tensor) -> Tensor:
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
    """What the towers read: rows as ``preprocess.collate`` made them."""


@final
class Embeddings(Table):
    """What the towers return: rows whose values are (n, D), L2-normalised unless the model says otherwise."""
