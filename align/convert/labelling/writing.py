"""A folder for a labelling tool: written whole or not at all, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from align.convert.labelling.records import Facts
from align.files import atomic_folder
from align.files.swapping import remove_leftovers


class Written(NamedTuple):
    """The outcome. notes: lines for the user about what was left out."""

    facts: Facts
    notes: list[str]


def check_new(out: Path) -> None:
    """Raise ValueError where something stands at `out` already, other than an empty folder with a name."""
    if not out.name or out.name == "..":
        raise ValueError(f"{out} has no name of its own; name a new folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is there already; name a new folder, or remove it first")


@contextmanager
def writing(out: str | Path) -> Iterator[Path]:
    """Yield a work folder, which gets the name `out` when the block ends without an error."""
    out = Path(out)
    check_new(out)
    if out.parent.is_dir():
        remove_leftovers(out.parent, [out.name])
    with atomic_folder(out) as work:
        yield work


def say_facts(facts: Facts, without: str) -> list[str]:
    """Return lines about samples and files that were left out. without: what the left out samples have not."""
    notes = []
    if facts.without:
        notes.append(f"left out: {facts.without} sample{'s' * (facts.without != 1)} {without}")
    if facts.bad:
        notes.append("files left out: " + ", ".join(f"{n} {reason}" for reason, n in sorted(facts.bad.items())))
    notes += [f"{m}: {n} beside the first of their sample are left out" for m, n in sorted(facts.beside.items())]
    return notes
