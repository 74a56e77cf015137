"""A binding as scores, a protocol, and sections of a page and of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from align.bind.binding import Bound, Plan
from align.bind.columns import Opened
from align.bind.matching import Match
from align.page.section import Curve, Section, Table, Tile
from align.values import Scores

METRIC = "matching@1"
SWEPT = {"dim": "directions of the anchor's space", "pairs": "samples to fit on"}


def scores_of(matches: Sequence[Match]) -> Scores:
    """Return ``image_to_text/matching@1`` and ``.../chance`` of each match."""
    found: Scores = {}
    for m in matches:
        found[f"{m.query}_to_{m.answer}/{METRIC}"] = m.accuracy
        found[f"{m.query}_to_{m.answer}/chance"] = m.chance
    return found


def protocol_of(opened: Opened, plan: Plan, bound: Bound, command: str = "") -> dict[str, Any]:
    """Return the facts that made the numbers, as plain data."""
    columns = {p.modality: str(p.column.name) for p in opened.pairs}
    anchors = list(dict.fromkeys(str(p.anchor_column.name) for p in opened.pairs))
    fitted = bound.fitted
    return {
        **({"command": command} if command else {}),
        "columns": columns,
        "anchor": ", ".join(anchors),
        "how": plan.how,
        "dim": fitted.dim,
        "anchor kept": plan.keep_anchor,
        "rows of a sample": plan.rows,
        "seed": plan.seed,
        "held out": plan.val,
        "samples held out": bound.held,
        "pairs of rows to fit on": bound.train,
        "fit": fitted.facts,
        "seconds to fit": round(bound.seconds, 3),
        "hit": "the nearest row by cosine is of the query's sample or group; ties never help",
        **(
            {"correlations": [round(float(x), 4) for x in fitted.correlations]}
            if fitted.correlations is not None
            else {}
        ),
        "sweeps": {n: {str(v): scores_of(m) for v, m in s.items()} for n, s in bound.sweeps.items()},
        "notes": notes_of(opened, bound),
    }


def notes_of(opened: Opened, bound: Bound) -> list[str]:
    """Return the lines that change how the numbers are read."""
    notes = list(bound.fitted.notes)
    if bound.left:
        notes.append(f"{bound.left} training samples were left out, because their groups are held out")
    if len(opened.pairs) > 1:
        *names, last = (p.modality for p in opened.pairs)
        notes.append(f"{', '.join(names)} and {last} were never paired with each other: their matching is emergent")
    if bound.sweeps:
        notes.append(
            "a sweep is measured on the held-out samples: measure its best value on others before you report it"
        )
    return notes


def sections_of(opened: Opened, bound: Bound) -> list[Section]:
    """Return the matching as a table, and each sweep as curves."""
    head = ["ask", "answer", "top-1", "chance", "rows", "among"]
    table = Table(head, [[m.query, m.answer, m.accuracy, m.chance, m.rows, m.among] for m in bound.matches], 2)
    between = [m for m in bound.matches if opened.anchor in (m.query, m.answer)]
    mean = sum(m.accuracy for m in between) / len(between)
    lowest = min(between, key=lambda m: m.accuracy)
    tiles = [
        Tile("top-1", mean, f"mean of {len(between)} directions", f"lowest {lowest.accuracy:.3f}, {_arrow(lowest)}"),
        Tile("chance", sum(m.chance for m in between) / len(between)),
    ]
    about = "Each held-out row asks for its sample among the held-out rows of the other column."
    found = [Section("Matching", about, [table], tiles)]
    if bound.sweeps:
        curves = [_curve(name, values) for name, values in bound.sweeps.items()]
        found.append(Section("Sweeps", "All values are measured on the same held-out samples.", curves))
    return found


def _curve(name: str, values: Mapping[int, Sequence[Match]]) -> Curve:
    lines: dict[str, list[tuple[float, float]]] = {}
    for value, matches in sorted(values.items()):
        for m in matches:
            lines.setdefault(_arrow(m), []).append((float(value), m.accuracy))
        lines.setdefault("chance", []).append((float(value), sum(m.chance for m in matches) / len(matches)))
    return Curve(f"By {name}", SWEPT[name], "top-1", lines)


def _arrow(match: Match) -> str:
    return f"{match.query} → {match.answer}"
