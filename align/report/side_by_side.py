"""Curves of several runs in one place: the losses and the values of validation that at least two of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from align.page.section import Curve, Section, Table
from align.report.curves import Points, read, smooth, thin


def read_curves(folders: Sequence[str]) -> dict[str, dict[str, Points]]:
    """Return folder -> the columns of its metrics.csv, for the folders that have one."""
    paths = {name: Path(name) / "metrics.csv" for name in folders}
    return {name: read(path) for name, path in paths.items() if path.is_file()}


def list_shared(runs: Mapping[str, Mapping[str, Points]]) -> list[str]:
    """Return the columns that at least two runs have: losses, recalls and the scores of evaluators."""
    columns = list(dict.fromkeys(name for found in runs.values() for name in found))
    wanted = [name for name in columns if name == "loss" or name.startswith("val/")]
    return [name for name in wanted if sum(name in found for found in runs.values()) > 1]


def state_curves(
    runs: Mapping[str, Mapping[str, Points]], groups: Mapping[str, Sequence[str]] | None = None
) -> list[Section]:
    """Return a section with a curve for each shared column, [] where there is none.

    groups: name -> its runs. Each is then one line, their mean, in a band from the lowest to the highest, at the steps
    that all of them have. Without groups each run is a line.
    """
    blocks = []
    for column in list_shared(runs):
        lines = {name: _line(column, found[column]) for name, found in runs.items() if column in found}
        bands = {}
        if groups is not None:
            spread = {
                name: found
                for name, members in groups.items()
                if (found := _spread([lines[run] for run in members if run in lines]))
            }
            lines = {name: [(x, mean) for x, mean, *_ in found] for name, found in spread.items()}
            bands = {name: [(x, low, high) for x, _, low, high in found] for name, found in spread.items()}
        if len(lines) > 1:
            short = {name: thin(points) for name, points in lines.items()}
            kept = {name: {x for x, _ in points} for name, points in short.items()}
            cut = {name: [band for band in found if band[0] in kept[name]] for name, found in bands.items()}
            blocks.append(Curve(column, "step", "", short, cut))
    note = "The lines are smoothed training losses, and values of validation as they were measured."
    if groups is not None:
        note += " A line is the mean over seeds, its band goes from the lowest to the highest."
    return [Section("Curves", note, blocks)] if blocks else []


def tabulate_ends(runs: Mapping[str, Mapping[str, Points]]) -> Table:
    """Return each shared column's last value in each run, and the step of the last one."""
    head = ["column", *runs]
    rows: list[list[str]] = []
    for column in list_shared(runs):
        ends = [found[column][-1] if column in found else None for found in runs.values()]
        rows.append([column, *("–" if end is None else f"{end[1]:.4f} at {end[0]:.0f}" for end in ends)])
    return Table(head, rows)


def _line(column: str, points: Points) -> Points:
    return smooth(points) if column == "loss" and len(points) >= 20 else points


def _spread(lines: Sequence[Points]) -> list[tuple[float, float, float, float]]:
    """Return (x, mean, lowest, highest) at the steps that all lines have."""
    tables = [dict(points) for points in lines]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    out = []
    for x in shared:
        values = [table[x] for table in tables]
        out.append((x, sum(values) / len(values), min(values), max(values)))
    return out
