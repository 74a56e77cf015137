"""Lists of raw inputs on their way into a tower. Errors name an input by its place in the list."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from align.model.naming import naming, short
from align.preprocess.base import Preprocess
from align.values import Values


def as_list(name: str, given: Any, modalities: Sequence[str]) -> list[Any]:
    """Return the inputs of a modality as a list.

    Raises ValueError for a name that is no modality of the model, and TypeError for a single input.
    """
    if name not in modalities:
        near = difflib.get_close_matches(name, modalities, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no tower for {name!r}, the model has {', '.join(modalities)}{hint}")
    single = isinstance(given, str | bytes | bytearray | os.PathLike | Mapping)
    if single or not (hasattr(given, "__iter__") or hasattr(given, "__len__")):
        one = short(given)
        raise TypeError(f"embed takes a list for each modality: {name}=[{one}], not {name}={one}")
    return list(given)


def collate(name: str, given: list[Any], preprocess: Preprocess, size: int) -> Iterator[Values]:
    """Yield the inputs as rows, ``size`` at a time. An empty list gives n = 0 rows, one time."""
    for start in range(0, max(len(given), 1), size):
        rows = []
        for i, x in enumerate(given[start : start + size], start):
            with naming(f"{name}[{i}] ({short(x)})"):
                rows.append(preprocess.row(x))
        yield preprocess.collate(rows)
