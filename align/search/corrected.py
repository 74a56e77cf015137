"""The choice of a hub correction for a search, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from align.search.index import Corrected, Index
from align.search.parts import Part
from align.search.rule import Rule
from align.search.shift import Shift, name_shift


class Chosen(NamedTuple):
    """A correction for a search, or None where none applies. notes: sentences for the user."""

    shift: Shift | None = None
    notes: Sequence[str] = ()


def choose_shift(index: Index, parts: Sequence[Part], of: str, rule: Rule | None, *, calibrated: bool) -> Chosen:
    """Return the correction that the index keeps for such a query.

    A correction is for queries of one part of weight 1, by the rule for which it was made. calibrated: True for a
    search by a calibrated threshold, which was chosen on scores as they are.
    """
    kept = index.about.get("correction") or {}
    asked = [part for part in parts if part.weight]
    if not kept or rule is None:
        return Chosen()
    names = [name_shift(m, of, rule.how) for m in dict.fromkeys(part.modality for part in asked)]
    if not set(names) & set(kept):
        return Chosen()
    if len(asked) != 1 or asked[0].weight != 1:
        return Chosen(None, ["scores are not corrected for hubs: a correction is for one part of weight 1"])
    if calibrated:
        return Chosen(None, ["scores are not corrected for hubs: a calibrated threshold is of scores as they are"])
    if not isinstance(index, Corrected) or rule.linear is None:
        return Chosen()
    shift, facts = index.shift(names[0]), kept[names[0]]
    notes = [f"scores are corrected for hubs by {shift.method}, with a bank of {facts.get('bank', 0):,} queries"]
    if missing := index.count_unshifted(of, names[0]):
        notes.append(
            f"{missing:,} rows of {of} came after the correction and take its mean; "
            "correct them with: align search INDEX --correct SHARDS"
        )
    return Chosen(shift, notes)
