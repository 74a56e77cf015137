"""Overrides: a source of a mixture may decode and augment differently, if its rows fit into the model's batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from align.data.names import MemberNames

if TYPE_CHECKING:
    from align.preprocess import Preprocess


class Decoding(NamedTuple):
    """Decoding of one source of a mixture: its member names, and its preprocess for each modality."""

    members: MemberNames
    preprocess: Mapping[str, Preprocess]


def check(overrides: Mapping[str, Mapping[str, Preprocess]], preprocess: Mapping[str, Preprocess]) -> None:
    """Raise ValueError for an override (source -> modality -> preprocess) that does not fit the model's preprocess."""
    for name, readers in overrides.items():
        for m, reader in readers.items():
            if m not in preprocess:
                raise ValueError(f"source {name!r} overrides {m!r}; the modalities are {', '.join(preprocess)}")
            theirs, ours = rows_of(reader), rows_of(preprocess[m])
            if theirs != ours:
                raise ValueError(
                    f"the {m} preprocess of source {name!r} makes rows of {theirs}, the model's of {ours}: "
                    "give it the model's size, so that they fit into one batch"
                )


def rows_of(preprocess: Preprocess) -> str:
    """Return the shape and dtype of a preprocess's rows for messages: ``3x28x28 uint8``, a dict's one after another."""
    values = preprocess.collate([])
    parts = values if isinstance(values, dict) else {"": values}
    return ", ".join(
        f"{name} {'x'.join(map(str, x.shape[1:])) or 'scalar'} {str(x.dtype).removeprefix('torch.')}".strip()
        for name, x in sorted(parts.items())
    )
