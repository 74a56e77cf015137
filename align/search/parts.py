"""A query of several parts: more of this, less of that, in one modality or in many."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor


@final
@dataclass(frozen=True)
class Part:
    """One part of a query.

    Args:
        modality: its tower.
        value: as ``JointModel.embed`` takes one input (a text, a path, bytes, an array), or an embedding (D,) as a
            Tensor.
        weight: its factor. A negative one asks for samples that are less like it. A part of weight 0 does not count.
    """

    modality: str
    value: Any
    weight: float = 1.0


def name_parts(parts: Sequence[Part]) -> list[str]:
    """Return a name for each part: its modality, "MODALITY 2" for the second of one, "-" before a negative weight."""
    seen: dict[str, int] = {}
    names = []
    for part in parts:
        seen[part.modality] = number = seen.get(part.modality, 0) + 1
        names.append(("-" if part.weight < 0 else "") + part.modality + (f" {number}" if number > 1 else ""))
    return names


def check_parts(parts: Sequence[Part], modalities: Collection[str]) -> None:
    """Raise ValueError for a modality without a tower, a weight that is no number, and weights that are all 0."""
    for part in parts:
        if part.modality not in modalities:
            raise ValueError(f"the model has no tower for {part.modality!r}; {nearest(part.modality, modalities)}")
        if not math.isfinite(part.weight):
            raise ValueError(f"the weight of {part.modality} is {part.weight}; a weight is a finite number")
    if not any(part.weight for part in parts):
        raise ValueError("every part has weight 0, so there is nothing to search by" if parts else "no part to ask by")


def nearest(name: str, names: Collection[str]) -> str:
    """Return the nearest of these names and all of them, for a message."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.6)
    have = f"it has {', '.join(names) or 'none'}"
    return f"did you mean {close[0]}? {have}" if close else have


def compose(parts: Sequence[Part], vectors: Sequence[Tensor], *, unit: bool) -> dict[str, Tensor]:
    """Return modality -> (1, D) float64, the sum of its parts' vectors by their weights.

    unit: vectors are brought to length 1 first. Raises ValueError for vectors of other shapes, or that are not finite.
    """
    whole: dict[str, Tensor] = {}
    size = vectors[0].shape
    for part, vector in zip(parts, vectors, strict=True):
        if vector.ndim != 1 or vector.shape != size:
            raise ValueError(f"an embedding is (D,) and as long as the others; that of {part.modality} is not")
        if not bool(vector.isfinite().all()):
            raise ValueError(f"the embedding of {part.modality} is not finite")
        row = vector.detach().cpu().double()[None]
        row = F.normalize(row, dim=1) if unit else row
        if part.weight:
            whole[part.modality] = whole.get(part.modality, torch.zeros_like(row)) + part.weight * row
    return whole


def find_reversed(parts: Sequence[Part]) -> list[str]:
    """Return the modalities whose parts all have a minus sign."""
    signs: dict[str, list[bool]] = {}
    for part in parts:
        if part.weight:
            signs.setdefault(part.modality, []).append(part.weight > 0)
    return [m for m, positive in signs.items() if not any(positive)]


def rescale(whole: Mapping[str, Tensor], parts: Sequence[Part], vectors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return each modality's vector (1, D) at the mean length of its parts: only its direction is the weights'."""
    out = {}
    for m, vector in whole.items():
        given = [(abs(p.weight), float(v.norm())) for p, v in zip(parts, vectors, strict=True) if p.modality == m]
        length = sum(w * norm for w, norm in given) / sum(w for w, _ in given)
        out[m] = F.normalize(vector, dim=1) * length
    return out
