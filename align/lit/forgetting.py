"""Recall of every pair of modalities after each stage of a run: ``RUN/stages.json``, which shows forgetting."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import lightning as L

from align.files import read_json, write_json
from align.lit.module import AlignModule
from align.lit.stages import Span

FALL = 0.05
"""Loss of recall@1 against the best earlier stage from which on a pair is marked."""
START = "(start)"


@final
class Forgetting(L.Callback):
    """Writer of a row of recalls after each stage, and of one for the weights that the run starts with.

    Its place is before the writer of checkpoints, so that a checkpoint that counts as validated has its row.
    """

    def __init__(self, run: Path, module: AlignModule, span: Span):
        self.path, self.module, self.span = run / "stages.json", module, span

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        rows = read_rows(self.path)
        kept = [row for row in rows if self.module.step and row["step"] <= self.module.step]
        if trainer.is_global_zero and kept != rows:
            _write(self.path, kept)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step = self.module.step
        if not trainer.is_global_zero or trainer.sanity_checking or step not in (0, self.span.end):
            return
        values = self.module.validation
        found = {name.split("/")[1]: value for name, value in values.items() if name.endswith("/recall@1")}
        row = {
            "stage": self.span.name if step else START,
            "step": step,
            "recall@1": {pair: None if math.isnan(value) else value for pair, value in found.items()},
        }
        rows = [*(row for row in read_rows(self.path) if row["step"] < step), row]
        _write(self.path, rows)
        if step:
            print("\n".join(draw(rows)), file=sys.stderr, flush=True)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's stages.json, [] where there is none."""
    return read_json(path)["stages"] if path.is_file() else []


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows, each with its marked pairs."""
    write_json(path, {"schema": 1, "fall": FALL, "stages": [{**row, "fallen": f} for row, f in _mark(rows)]})


def _mark(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Return each row with its pairs that are more than FALL below the highest recall of an earlier row."""
    best: dict[str, float] = {}
    out = []
    for row in rows:
        values = {pair: value for pair, value in row["recall@1"].items() if value is not None}
        out.append((row, [pair for pair, value in values.items() if value < best.get(pair, 0.0) - FALL]))
        best |= {pair: max(value, best.get(pair, 0.0)) for pair, value in values.items()}
    return out


def draw(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows as a table: a line for each pair, a column for each stage, and a mark at each value that fell."""
    pairs = list(dict.fromkeys(pair for row in rows for pair in row["recall@1"]))
    head = ["recall@1", *(f"{row['stage']} ({row['step']})" if row["step"] else row["stage"] for row in rows)]
    table = [head]
    for pair in pairs:
        cells = []
        for row, fallen in _mark(rows):
            value = row["recall@1"].get(pair)
            cells.append("-" if value is None else f"{value:.3f}" + ("!" if pair in fallen else " "))
        table.append([pair, *cells])
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in table]
    marked = any(fallen for _, fallen in _mark(rows))
    return lines + ([f"! more than {FALL} below the pair's best earlier stage"] if marked else [])
