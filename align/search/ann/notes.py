"""Notes of an index folder about its approximate search: ``ann/backend.json``.

    {"schema": 1, "backend": "hnsw" or a URL, "index": id, "effort": 1.0,
     "modalities": {"image": {"mark": ..., "generation": ..., "dim": ..., "rows": ..., ...}}, "measured": {...}}

``mark`` is the state of the modality's rows that the search was made of, see ``LocalIndex.mark``.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final
from uuid import uuid4

from align.files import atomic_write, read_json, write_json

FOLDER = "ann"
NAME = "backend.json"
SCHEMA = 1


@final
@dataclass(frozen=True)
class Notes:
    """What an index has of an approximate search.

    Args:
        backend: "hnsw", "ivfpq", "int8", "binary", or a URL.
        index: a name for the index that no other one has.
        effort: the factor of the effort of searches.
        modalities: modality -> facts: ``mark``, those of ``Backend.make``, and those that it returned.
        measured: recall, self-recall and times, as they were printed.
    """

    backend: str
    index: str
    effort: float = 1.0
    modalities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)


def path_of_notes(folder: Path) -> Path:
    """Return the file of the notes of an index."""
    return folder / FOLDER / NAME


def read_notes(folder: Path) -> Notes | None:
    """Return the notes of an index, None where it has none.

    Raises ValueError where they are damaged or newer than this align.
    """
    path = path_of_notes(folder)
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {_remedy(folder)}") from None
    if isinstance(found, dict) and isinstance(found.get("schema"), int) and found["schema"] > SCHEMA:
        raise ValueError(f"{path} has schema {found['schema']}; this align reads up to {SCHEMA}: upgrade align")
    try:
        made = {str(m): dict(facts) for m, facts in found["modalities"].items()}
        notes = Notes(str(found["backend"]), str(found["index"]), float(found["effort"]), made, dict(found["measured"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {_remedy(folder)}") from None
    return notes


def write_notes(folder: Path, notes: Notes) -> None:
    """Write the notes of an index, whole or not at all."""
    plain = {"backend": notes.backend, "index": notes.index, "effort": notes.effort}
    more = {"modalities": {m: dict(facts) for m, facts in notes.modalities.items()}, "measured": dict(notes.measured)}
    write_json(path_of_notes(folder), {"schema": SCHEMA, **plain, **more})


def remove_notes(folder: Path) -> None:
    """Remove the notes of an index. Searches are exact then."""
    path_of_notes(folder).unlink(missing_ok=True)


def read_id(folder: Path) -> str:
    """Return the name of an index that no other one has, "" where it has got none yet."""
    path = folder / FOLDER / "id"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def identify(folder: Path) -> str:
    """Return the name of an index that no other one has. It is made where the index has none, and stays."""
    if not read_id(folder):
        with atomic_write(folder / FOLDER / "id", "w") as file:
            file.write(uuid4().hex)
    return read_id(folder)


def _remedy(folder: Path) -> str:
    return f"make it again: align index backend {shlex.quote(str(folder))} hnsw"
