"""The outcome of writing a folder for a labelling tool, and what is said about it."""

from __future__ import annotations

from typing import NamedTuple

from align.convert.labelling.records import Facts


class Written(NamedTuple):
    """The outcome. notes: lines for the user about what was left out."""

    facts: Facts
    notes: list[str]


def say_facts(facts: Facts, without: str) -> list[str]:
    """Return lines about samples and files that were left out. without: what the left out samples have not."""
    notes = []
    if facts.without:
        notes.append(f"left out: {facts.without} sample{'s' * (facts.without != 1)} {without}")
    if facts.bad:
        notes.append("files left out: " + ", ".join(f"{n} {reason}" for reason, n in sorted(facts.bad.items())))
    notes += [f"{m}: {n} beside the first of their sample are left out" for m, n in sorted(facts.beside.items())]
    return notes
