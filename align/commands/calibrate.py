"""``align search INDEX --calibrate SHARDS --precision 0.9`` chooses a threshold on labelled shards and stores it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from align.commands.named import split
from align.commands.search_groups import Calibration

if TYPE_CHECKING:
    from align.scoring import How
    from align.search import Searcher


def calibrate(searcher: Searcher, of: str, calibration: Calibration, how: How | None, *, json: bool) -> None:
    """Choose the threshold, print it, and store it in the index where that can be written."""
    from align.commands.progress import progress
    from align.commands.shown import expand_folders
    from align.data import Shards
    from align.evaluation import Space
    from align.files import json_text
    from align.scoring import choose
    from align.search.threshold import calibrate as choose_least
    from align.search.threshold import name_threshold

    query = split(calibration.by) or ["text"]
    shards = Shards(expand_folders(split(calibration.calibrate)), shuffle=False)
    rule = how or choose(searcher.model.terms, query, of)
    with progress("embedding") as say:
        hit, attribute = calibration.hit, calibration.attribute
        space = Space(searcher.model, shards, hit=hit, attribute=attribute, progress=say)
        table, hits = space.table(), space.hit
    found = choose_least(
        table,
        hits.rule,  # pyright: ignore[reportArgumentType]  a rule by captions is not among the choices
        query,
        of,
        calibration.precision or 0.0,
        how=rule,
        terms=searcher.model.terms,
    )
    name = name_threshold(query, of, rule)
    facts: dict[str, Any] = {**found._asdict(), "stated": calibration.precision, "hit": hits.text}
    facts["shards"] = split(calibration.calibrate)
    stored = _store(searcher, name, facts)
    if json:
        print(json_text({"name": name, **facts, "stored": stored}, 2))
        return
    print(f"{name}: {found.value:.6g}")
    print(f"precision {found.precision:.3f}, recall {found.recall:.3f}, {found.n} pairs reach it (hit: {hits.text})")
    if stored:
        print("stored in the index; ask with --threshold calibrated")


def _store(searcher: Searcher, name: str, facts: dict[str, Any]) -> bool:
    """Store a threshold in the index's about. Return False, with a line on stderr, where it cannot be written."""
    from align.search.local import LocalIndex

    folder: Any = getattr(searcher.index, "folder", None)
    try:
        with LocalIndex.open(folder, write=True) as index, index.change() as change:
            change.about(threshold={**(index.about.get("threshold") or {}), name: facts})
    except (OSError, ValueError) as error:
        print(f"not stored: {error}; ask with --threshold {facts['value']:.6g}", file=sys.stderr)
        return False
    return True
