"""The facts behind the numbers as blocks of the page: the protocol, its notes, and the data that could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.files import read_json
from align.page.blocks import AnyBlock, Counts, Entries, Fold, Lines, Sentence, Values


def notes(protocol: Mapping[str, Any]) -> list[AnyBlock]:
    """Return the protocol's notes as a list, or nothing where there are none."""
    lines = protocol.get("notes") or ()
    return [Lines(lines)] if lines else []


def details(scores: Mapping[str, float], protocol: Mapping[str, Any], results: str) -> list[AnyBlock]:
    """Return the protocol without notes and bad data, and every score by its name, both folded.

    results: the file that has the scores.
    """
    out: list[AnyBlock] = []
    if entries := {k: v for k, v in protocol.items() if k not in ("bad", "notes") and v not in (None, {})}:
        out.append(Fold(_name_some(entries), [Entries(entries)]))
    if scores:
        out.append(Fold(f"All {len(scores)} scores, by their names in {results}", [Values(scores)]))
    return out


def _name_some(facts: Mapping[str, Any], most: int = 6) -> str:
    """Return the names of the first facts, as in "Command, model, shards and 4 more"."""
    names = [name.replace("_", " ") for name in facts]
    shown, more = names[:most], len(names) - most
    text = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return text[:1].upper() + text[1:]


def bad_data(training: Mapping[str, int] | None, protocol: Mapping[str, Any], curves: Path | None) -> list[AnyBlock]:
    """Return the counts of bad data by reason, a column for each time the data was read.

    training: of the training. Without it the bad.json beside `curves` is read, where there is one. The evaluation's
    counts are in the protocol.
    """
    beside = curves.with_name("bad.json") if curves else None
    if training is None and beside and beside.is_file():
        training = read_json(beside)
    given = {"training": training, "evaluation": protocol.get("bad")}
    found = {
        when: {reason: n for reason, n in counts.items() if isinstance(n, int) and n}
        for when, counts in given.items()
        if isinstance(counts, Mapping)
    }
    reasons = sorted({reason for counts in found.values() for reason in counts})
    if found and not reasons:
        return [Sentence(f"None: every sample and member that {' and '.join(found)} read was good.")]
    return [Counts("Reason", found, reasons)] if found else []
