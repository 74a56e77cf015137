"""Facts that scoring and checkpoints keep: trained terms, origins of weights and features, and scores by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Scores = dict[str, float]
"""Flat names with slashes: ``"image_to_text/recall@1"``."""


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
