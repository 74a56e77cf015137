"""Arrays: .npy of a modality that names no other medium, such as features or sensor windows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from align.media.cloud import CLOUD, LIMIT
from align.media.medium import Examined, Face, Measures, Medium, Note, Stored
from align.media.npy import read_npy
from align.media.recode import Recode
from align.values import BadSample


@final
class Array(Medium):
    """Numeric arrays of any shape. One with the shape of a cloud is shown as a cloud."""

    name = "array"
    suffixes = ("npy",)

    def read(self, source: bytes | Path) -> np.ndarray:
        """Return the numbers as they are. Raises BadSample as ``read_npy``."""
        data = source.read_bytes() if isinstance(source, Path) else source
        return read_npy(io.BytesIO(data), "array", limit=LIMIT)

    def describe(self, data: bytes) -> dict[str, Any]:
        return CLOUD.describe(data)

    def measure(self, about: Mapping[str, Any]) -> Measures:
        return CLOUD.measure(about)

    def say(self, about: Mapping[str, Any], size: int) -> str:
        return CLOUD.say(about, size)

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        wrong = _wrong(data, modality)
        return Examined([] if wrong is None else [wrong])

    def encode(self, content: Any) -> bytes | None:
        return CLOUD.encode(content)

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Refuse an array that training could not use."""
        if (wrong := _wrong(data, modality)) is not None:
            raise BadSample(*wrong)
        return Stored(data, suffix)

    def face(self, data: bytes, suffix: str) -> Face | None:
        return CLOUD.face(data, suffix)

    def sketch(self, data: bytes, *, colours: bool) -> str | None:
        return CLOUD.sketch(data, colours=colours)


def _wrong(data: bytes, modality: str) -> Note | None:
    """Return why an array has no use (it is empty or not finite), or None."""
    array = read_npy(io.BytesIO(data), modality, limit=LIMIT)
    if array.size == 0:
        return Note(f"{modality}/empty", f"shape {array.shape}")
    wrong = int((~np.isfinite(array)).sum())
    return Note(f"{modality}/non-finite", f"{wrong} of {array.size} numbers") if wrong else None


ARRAY = Array()
