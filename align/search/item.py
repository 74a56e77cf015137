"""The entry of a sample in an index, and the samples that a search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final


@final
@dataclass(frozen=True)
class Item:
    """The entry of a sample.

    Args:
        key: the sample's key in its shard, or the path of its files below the indexed folder, without a suffix.
        source: ``{"shard": PATH, "key": KEY}``, or ``{"file": PATH, "members": {MEMBER: PATH}}`` with the first file
            and all of them by member name ("image.jpg"). Local paths are absolute. Two items are one sample where
            ``place`` and ``key`` are equal.
        captions: its texts, a line each, without hard negatives.
        label: as in the shard's json, see ``align.values.Batch``. None: no label.
        json: the whole json of the sample, which filters read.
    """

    key: str
    source: Mapping[str, Any]
    captions: Sequence[str] = ()
    label: Any = None
    json: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The shard, or the first file."""
        return str(self.source.get("shard") or self.source.get("file") or "")


class Hit(NamedTuple):
    """A found sample.

    rank: from 1. score: by the search's rule. sample: its number in the index, which stays its own for good.
    cosines: part of the query -> its cosine with the sample's best row, without weight and sign. same: numbers of the
    samples that were folded into this one as near duplicates. text_rank: its rank in the full text search of a hybrid
    one, or None.
    """

    rank: int
    score: float
    sample: int
    item: Item
    cosines: Mapping[str, float]
    same: Sequence[int] = ()
    text_rank: int | None = None


@final
@dataclass(frozen=True)
class Found:
    """The answer of a search.

    Args:
        hits: best first.
        of, how: the modality searched among, and the rule of the scores: "cosine", "mip", "objective", "hybrid" (sums
            of 1 / (60 + rank), see ``align.search.hybrid``) or "text" (BM25 of the captions alone).
        candidates: samples with a row of that modality that the filter lets through.
        seconds: time of the search, without the embedding of the query. notes: sentences for the user.
        correction: the correction for hubs by which the scores are lowered, "" for none.
    """

    hits: Sequence[Hit]
    of: str
    how: str
    candidates: int
    seconds: float = 0.0
    notes: Sequence[str] = ()
    correction: str = ""
