"""A part of a query, before it is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from torch import Tensor


@final
@dataclass(frozen=True)
class Ask:
    """A part of a query as a visitor gives it: a text, a file's bytes, or an item of the index.

    name: of the file. Only its suffix is read, which tells a mesh's format. id: an item, whose stored rows ask.
    vector: (D,), the embedding that a file has become.
    """

    modality: str
    text: str | None = None
    data: bytes | None = None
    name: str = ""
    id: int | None = None
    weight: float = 1.0
    vector: Tensor | None = None
