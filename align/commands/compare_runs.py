"""Comparison of training runs: their curves side by side, and configs over several seeds."""

from __future__ import annotations

import json as json_
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.commands.errors import Refused

if TYPE_CHECKING:
    from align.evaluation.by_seed import SeedDifference
    from align.page.section import Section

LEVEL = 0.05


def compare_curves(runs: Sequence[str], out: str | None, json: bool) -> None:
    """Print the last values of runs that were not evaluated, and write their curves."""
    from align.page.section import Section
    from align.report.side_by_side import list_shared, read_curves, state_curves, tabulate_ends

    found = read_curves(runs)
    if absent := [run for run in runs if run not in found]:
        raise Refused(
            f"{absent[0]} has neither results.json nor metrics.csv; align compare takes folders of align evaluate or "
            "align train"
        )
    if len(found) < 2:
        raise Refused(f"align compare takes two folders or more; got {', '.join(runs)}", code=2)
    section = Section("Training", "The last value of each column, and its step.", [tabulate_ends(found)])
    notes = ["not tested: align evaluate RUN SHARDS gives results that are compared sample by sample"]
    ends = {name: {c: columns[c][-1] for c in list_shared(found) if c in columns} for name, columns in found.items()}
    plain = [
        {"run": name, "columns": {c: {"step": x, "value": y} for c, (x, y) in of.items()}} for name, of in ends.items()
    ]
    _show(plain, [section], notes, json)
    if out is not None:
        write_comparison(Path(out), plain, [section, *state_curves(found)], notes)


def compare_by_seed(runs: Sequence[str], scores: Sequence[str], out: str | None, json: bool) -> None:
    """Compare configs over the seeds that their runs share."""
    from align.evaluation.by_seed import compare_seeds, group_runs, read_run
    from align.page.section import Section, Table
    from align.report.side_by_side import read_curves, state_curves

    groups = group_runs([read_run(run) for run in runs])
    sections, plain, notes = [], [], []
    for (first, second), rows, more in compare_seeds(groups, scores):
        head = ["score", first, second, "difference", "p", "p, Holm", "better"]
        note = f"{second} minus {first}, over {rows[0].seeds} seeds (mean ± standard deviation)."
        sections.append(
            Section(f"{second} against {first}", note, [Table(head, [_row(row, (first, second)) for row in rows])])
        )
        plain.append({"first": first, "second": second, "notes": more, "differences": [_plain(row) for row in rows]})
        notes += more
    notes = list(dict.fromkeys(notes))
    _show(plain, sections, notes, json)
    if out is not None:
        members = {group.name: [run.folder for run in group.runs.values()] for group in groups}
        write_comparison(Path(out), plain, [*sections, *state_curves(read_curves(runs), members)], notes)


def _row(row: SeedDifference, names: tuple[str, str]) -> list[Any]:
    from align.commands.figures import write_probability
    from align.page.section import Measured

    known = not math.isnan(row.p)
    better = names[row.difference > 0] if known and row.corrected < LEVEL and row.difference else "–"
    means = [
        f"{value:.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}")
        for value, spread in zip((row.first, row.second), row.spreads, strict=True)
    ]
    chances = [write_probability(p) if known else "–" for p in (row.p, row.corrected)]
    return [row.score, *means, Measured(row.difference, row.interval if known else None), *chances, better]


def _plain(row: SeedDifference) -> dict[str, Any]:
    """Return a difference as JSON has it, with null for what one seed does not tell."""
    found = row._asdict() | {"difference": row.difference}
    return {
        key: None
        if isinstance(value, float) and math.isnan(value)
        else [None if math.isnan(x) else x for x in value]
        if isinstance(value, tuple)
        else value
        for key, value in found.items()
    }


def _show(plain: Any, sections: Sequence[Section], notes: Sequence[str], json: bool) -> None:
    from align.commands.tables import print_notes, print_tables

    if json:
        print(json_.dumps(plain, indent=1, ensure_ascii=False))
    else:
        print_tables(sections)
        print_notes(notes)


def write_comparison(folder: Path, plain: Any, sections: Sequence[Section], notes: Sequence[str]) -> None:
    """Write compare.json and compare.html into a folder, and print their names."""
    from align.commands.process import command_line
    from align.files import write_json
    from align.report import write_report

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "compare.json", plain)
    page = folder / "compare.html"
    about = {"command": command_line(), "notes": notes}
    write_report(page, title="Comparison", scores={}, protocol=about, sections=sections)
    print("wrote", folder / "compare.json", page, file=sys.stderr)
