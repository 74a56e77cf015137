"""Values that flow between the rooms: Sample, Rows, Batch, Features, Embeddings, TermInfo, Origin, FeatureOrigin,
Scores, BadSample.

Letters, used everywhere: B samples on this rank, N samples on all ranks, n rows of a modality, D shared dim, W encoder
width, L tokens, T time, C H W as torch has them, P points.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor

Values = Tensor | dict[str, Tensor]

Sample = dict[str, Any]
"""One example as read from a shard: member name -> bytes, plus "__key__", "__url__" and "__index__", its position in
the epoch."""

GRADES = ("good", "partial", "exclude", "bad")
"""Grades of a pair of a sample's modalities, the better first. A batch holds a grade as its place here.

good: a positive. partial: a positive of less weight. exclude: neither positive nor negative. bad: a negative.
"""

Scores = dict[str, float]
"""Flat names with slashes: ``"image_to_text/recall@1"``."""


class BadSample(Exception):
    """Error of a member that cannot become a row. ``reason`` is a short name with its modality: ``image/truncated``."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # survives the way from a data worker to the main process
        return type(self), (self.reason, self.detail)


class Rows(NamedTuple):
    """n rows of one modality, in the order of their samples.

    values: (n, ...), or a dict of such tensors.
    sample: (n,) int64, the sample 0..B-1 of this rank that each row belongs to. A hard negative has -1, which matches
    nothing. It stands behind a row of its sample.
    tokens: (n, L, D) and mask: (n, L) bool, true where a token is real, where a loss asked for them.
    content: (n,) int64, equal for rows that were read from equal content, where an evaluation asked for it.
    part: (n,) int64, the part of its sample that each row is about, or -1 for the whole. None: every row is about the
    whole. Rows of modalities that all have parts belong together where both the sample and the part are equal.
    """

    values: Values
    sample: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
    content: Tensor | None = None
    part: Tensor | None = None

    @property
    def n(self) -> int:
        """Number of rows; ``len`` counts the tuple's fields."""
        return len(self.sample)

    @property
    def owner(self) -> Tensor:
        """(n,) the sample that each row travels with. For a hard negative it is that of the rows before it, or -1."""
        return torch.where(self.sample >= 0, self.sample, self.sample.cummax(0).values)

    def slice(self, start: int, stop: int) -> Rows:
        """Return the rows of the samples start..stop-1, numbered from 0.

        A hard negative goes with its owner. Those before the first row go with sample 0, so that no row is lost.
        """
        owner = self.owner.clamp(min=0)
        inside = (owner >= start) & (owner < stop)  # (n,)
        rows = Rows(*(_map(part, lambda x: x[inside]) for part in self))
        return rows._replace(sample=torch.where(rows.sample >= 0, rows.sample - start, rows.sample))


class Features(NamedTuple):
    """Output of an encoder.

    pooled: (n, W). tokens: (n, L, W) or None. mask: (n, L) bool or None, true where a token is real.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


class TermInfo(NamedTuple):
    """Facts of a trained term of the objective that scoring needs."""

    modalities: tuple[str, ...]
    kind: (
        str  # "pairwise" or "symile" (scale·<a, b, ...> + bias), "volume" or "area" (-scale·it), "span" (scale·it: the
    )
    # length of the candidate's projection on the others' span), "tokens" (no score)
    scale: float
    bias: float = 0.0
    blocks: tuple[tuple[int, int], ...] = ()  # coordinates start..stop-1 that count of each modality; (): all
    prefixes: tuple[int, ...] = ()  # numbers of first coordinates that are embeddings too (Matryoshka)

    def to_json(self) -> dict[str, Any]:
        """Return the term as plain data. Blocks and prefixes are left out where there are none."""
        return {name: x for name, x in self._asdict().items() if name not in ("blocks", "prefixes") or x}

    @classmethod
    def from_json(cls, term: Mapping[str, Any]) -> TermInfo:
        """Return the term of plain data."""
        blocks = tuple((start, stop) for start, stop in term.get("blocks", ()))
        prefixes = tuple(term.get("prefixes", ()))
        return cls(**{**term, "modalities": tuple(term["modalities"]), "blocks": blocks, "prefixes": prefixes})


class Origin(NamedTuple):
    """Origin of a part's published weights.

    source: the file, or the hub's ``owner/name``. sha256: of the file of weights. licence: as its publisher states it.
    changed: True where the weights have been trained since.
    """

    source: str
    sha256: str
    licence: str = "unstated"
    changed: bool = False


class FeatureOrigin(NamedTuple):
    """Origin of the cached features that a head was fitted on: one tower of a model, which alone fits the head.

    model: MODEL as ``align.load`` takes it. sha256: of its weights. modality: of the tower in it. weights, preprocess:
    hashes of these two of the tower. column: the name of the column, and its facts in the cache.
    """

    model: str
    sha256: str
    modality: str
    weights: str
    preprocess: str
    column: dict[str, Any]


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
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

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


def _map(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to every tensor in rows and dicts. Anything else stays as it is."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, Rows):
        return Rows(*(_map(part, function) for part in x))
    if isinstance(x, dict):
        return {k: _map(v, function) for k, v in x.items()}
    return x
