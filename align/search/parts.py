"""A query of several parts: more of this, less of that, in one modality or in many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final


@final
@dataclass(frozen=True)
class Part:
    """One part of a query.

    Args:
        modality: its tower.
        value: as ``JointModel.embed`` takes one input (a text, a path, bytes, an array), or an embedding (D,) as a
            Tensor.
        weight: its factor. A negative one asks for samples that are less like it.
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
