"""suite.json: a row of scores for each model, which later commands add to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from align.files import read_json, write_json
from align.values import Scores

FILE, FOLDER, SCHEMA = "suite.json", "suite", 1


@final
@dataclass
class Row:
    """Scores of a model on the sets.

    scores: SET/SCORE -> number. intervals: of the same names. model: SHA-256 of its weights. folder: below OUT/suite,
    which has a folder for each set. sets: set -> entries of its protocol. left: set -> {"why", "get"} of those that
    have no number. command, version: of the last command.
    """

    model: str
    folder: str
    version: str = ""
    command: str = ""
    scores: Scores = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(
        self, name: str, attribute: str, scores: Scores, intervals: Mapping[str, Any], about: Mapping[str, Any]
    ) -> None:
        """Add the results of a set in place of its earlier ones."""
        self.scores = {k: v for k, v in self.scores.items() if not k.startswith(f"{name}/")}
        self.intervals = {k: v for k, v in self.intervals.items() if not k.startswith(f"{name}/")}
        self.scores |= {f"{name}/{score}": value for score, value in scores.items()}
        self.intervals |= {f"{name}/{score}": (low, high) for score, (low, high) in intervals.items()}
        self.sets[name] = {"attribute": attribute, **about}
        self.left.pop(name, None)

    def leave(self, name: str, why: str, get: str = "") -> None:
        """Note that a set has no number, and the way to get the set. An earlier number stays, and the note says so."""
        kept = "; the number is of an earlier command" if name in self.sets else ""
        self.left[name] = {"why": why + kept, "get": get}


def read_rows(folder: Path) -> dict[str, Row]:
    """Return model -> row of FOLDER/suite.json, none where it is not there. Raises ValueError for another file."""
    path = folder / FILE
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not isinstance(content.get("rows"), dict):
        raise ValueError(f"{path} is no {FILE} that align evaluate --suite wrote; name another --out")
    return {name: _row(entry, f"{path}, {name}") for name, entry in content["rows"].items()}


def write_rows(folder: Path, rows: Mapping[str, Row]) -> Path:
    """Write FOLDER/suite.json: {"schema", "rows": {model: {SET/SCORE: number, "protocol", "intervals"}}}."""
    found = {
        name: {
            **row.scores,
            "protocol": {
                "version": row.version,
                "command": row.command,
                "model": row.model,
                "folder": row.folder,
                "sets": row.sets,
                "left": row.left,
            },
            "intervals": row.intervals,
        }
        for name, row in rows.items()
    }
    write_json(folder / FILE, {"schema": SCHEMA, "rows": found})
    return folder / FILE


def open_row(rows: dict[str, Row], name: str, model: str) -> Row:
    """Return a model's row, a fresh one where there is none or where its weights are others. ``rows`` then has it."""
    if name not in rows or rows[name].model != model:
        taken = {row.folder for other, row in rows.items() if other != name}
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[-80:] or "model"
        folder = next(one for one in (stem, *(f"{stem}_{n}" for n in range(2, len(taken) + 3))) if one not in taken)
        rows[name] = Row(model, folder)
    return rows[name]


def _row(entry: Any, where: str) -> Row:
    try:
        protocol = entry["protocol"]
        scores = {k: float(v) for k, v in entry.items() if k not in ("protocol", "intervals")}
        intervals = {k: (float(low), float(high)) for k, (low, high) in entry["intervals"].items()}
        model, folder, version, command = (str(protocol[name]) for name in ("model", "folder", "version", "command"))
        return Row(model, folder, version, command, scores, intervals, dict(protocol["sets"]), dict(protocol["left"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: no row that align evaluate --suite wrote ({error!r}); name another --out") from None
