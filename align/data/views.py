"""Views: several rows of one, each augmented anew, in training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from align.data.columns.columns import Columns
from align.data.reading import Reading


def check_views(views: Mapping[str, int], modalities: Collection[str], source: Reading) -> None:
    """Raise ValueError for views of an unknown modality, fewer than one, and of rows in a cache, which no draw changes.

    views: modality -> number of rows that each of its rows becomes.
    """
    for m, count in views.items():
        if m not in modalities:
            close = get_close_matches(m, modalities, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(modalities)}"
            raise ValueError(f"views names the modality {m!r}; {hint}")
        if count < 1:
            raise ValueError(f"views of {m} are {count}; a row has one view at least")
        if count > 1 and isinstance(source, Columns) and m in source.columns:
            raise ValueError(f"views of {m} would be equal: its rows come from a cache, and no draw changes them")
