"""A JSON file of concepts: their synonyms, definitions and parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from align.files import read_json

KEYS = ("synonyms", "definitions", "parents")


class Concept(NamedTuple):
    """Words about a concept, and the names of the concepts above it."""

    synonyms: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()


def read_concepts(path: str | Path) -> dict[str, Concept]:
    """Return name -> concept, of a JSON object ``{"seven": {"synonyms": ["7"], "definitions": [], "parents": []}}``.

    Each key may be left out. A parent without an entry is a concept without words.

    Raises FileNotFoundError for no file, and ValueError with the file and the concept for another form, for a name that
    comes in two cases, and for a concept that is above itself.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path} is no object of concepts: name -> {', '.join(KEYS)}")
    concepts = {name: _read(path, name, entry) for name, entry in found.items()}
    for name in [parent for each in concepts.values() for parent in each.parents if parent not in concepts]:
        concepts[name] = Concept()
    seen: dict[str, str] = {}
    for name in concepts:
        if seen.setdefault(name.casefold(), name) != name:
            raise ValueError(f"{path}: {name!r} and {seen[name.casefold()]!r} are one name in two cases")
        if name in find_ancestors(concepts, name, len(concepts))[1:]:
            raise ValueError(f"{path}: {name!r} is above itself")
    return concepts


def _read(path: str | Path, name: str, entry: Any) -> Concept:
    fits = isinstance(entry, dict) and {*entry} <= {*KEYS}
    if not fits or not all(isinstance(x, list) and all(isinstance(y, str) and y for y in x) for x in entry.values()):
        raise ValueError(f"{path}: {name!r} has the keys {', '.join(KEYS)}, lists of text; got {str(entry)[:80]}")
    return Concept(*(tuple(entry.get(key, ())) for key in KEYS))


def find_ancestors(concepts: dict[str, Concept], name: str, up: int) -> list[str]:
    """Return a concept and those at most ``up`` steps above it, the nearest first. Of an unknown one its name alone.

    A concept that is above itself comes a second time.
    """
    out, level = [name], [name]
    for _ in range(up):
        level = [parent for each in level if each in concepts for parent in concepts[each].parents]
        level = [parent for parent in dict.fromkeys(level) if parent not in out[1:]]
        out += level
    return out
