"""An approximate search as it was made, and the rule by which it or an exact one is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from align.search.finder import Backend
from align.search.local.state import Standing
from align.search.shift import Shift
from align.search.where import Where

FEW = 10_000
"""Samples that a filter lets through, up to which a search is exact."""
RARE = 0.1
"""Share of the samples that a filter lets through, up to which a search is exact: see docs/big-search.md."""
DEEPER = 3  # a search for k re-scores 3 k samples at least


class Made(NamedTuple):
    """An approximate search of an index as it stands.

    rerank: samples that are scored exactly. modalities: modality -> facts, see ``Backend.open``, with ``mark``, the
    state of the rows that it was made of. remedy: the command that makes it again.
    """

    backend: Backend
    rerank: int
    modalities: Mapping[str, Mapping[str, Any]]
    remedy: str = "align index backend INDEX NAME"

    def count_scored(self, k: int) -> int:
        """Return the number of samples that a search for k scores exactly at least."""
        return max(self.rerank, DEEPER * k)


def choose_made(
    made: Made | None, of: str, k: int, stand: Standing, where: Where | None, *, scaled: bool, shift: Shift | None
) -> tuple[Made | None, str]:
    """Return the approximate search, or None and the reason for an exact one, "" where it goes without saying."""
    if made is None or of not in made.modalities:
        return None, ""
    name = f"the {made.backend.name} of {of}"
    if made.modalities[of].get("mark") != stand.mark:
        return None, f"exact: {name} is stale; make it again: {made.remedy}"
    if scaled:
        return None, f"exact: rows count with their length, which {name} does not have"
    if shift is not None:
        return None, f"exact: the correction for hubs changes the order, which {name} does not know"
    if where is not None and stand.passed <= max(FEW, RARE * stand.samples):
        return None, f"exact: the filter lets {stand.passed} of {stand.samples} samples through"
    return (None, "") if stand.passed <= 2 * made.count_scored(k) else (made, "")
