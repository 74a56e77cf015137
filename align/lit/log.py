"""``RUN/metrics.csv``: one flat file, one row per step, ``step,loss`` first, in full precision.

Values stay on the device and are written in blocks, so that no step waits for its log.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch

from align.checkpoint import Unsaved
from align.checkpoint.room import making_room
from align.files import atomic_write, whole_or_not
from align.lit.loaders import Loaders
from align.lit.module import AlignModule
from align.lit.sent import Sent


class Log(L.Callback):
    """Writer of metrics.csv, whose rows go to the trainer's loggers too.

    Columns: step, loss, each term with its scale and, where it has several pairs, each pair, grad_norm, lr,
    samples_per_second, wait (the share of time spent waiting for data) and bad (bad members so far, of all ranks).
    A run with a skipped step (see `align.lit.skipped`) gets the column skipped, last, with a 1 in those rows.
    Named sources add source/NAME/samples and source/NAME/epoch so far, and source/NAME/loss, in which only its samples
    are anchors (in mixed batches every ``data.mix.losses_every`` steps). The columns of the validation come last. A
    value that a step does not have is empty. A run that goes on with more to log (a source, a validation) gets more
    columns. A row of step 0 has the scores of the weights that the run starts with, where those are measured.

    sent: sender to the loggers. known: further columns that the file has from its first row on.
    patient: rows that cannot be written, as on a full disk, wait for the next time.
    """

    def __init__(
        self,
        run: Path,
        module: AlignModule,
        loaders: Loaders,
        sent: Sent,
        *,
        block: int = 20,
        known: Sequence[str] = (),
        patient: bool = False,
    ):
        self.path, self.module, self.loaders, self.block = run / "metrics.csv", module, loaders, block
        self.known, self.patient, self.sent = known, patient, sent
        self.pending: list[dict[str, Any]] = []
        self.columns: list[str] = []  # empty until the first rows are written
        self._before: list[str] = []  # columns of the file that a resumed run finds
        self._last: tuple[int, dict[str, Any]] | None = None  # the last row in the file, and the byte where it begins

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._before = keep_until(self.path, self.module.step)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._clock, self._waited = time.perf_counter(), self.loaders.waited

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module, data = self.module, self.loaders.data
        now, waited = time.perf_counter(), self.loaders.waited
        seconds = max(1e-9, now - self._clock)
        row = {"step": module.step, **module.values, "lr": module.rate(module.step - 1)}
        row |= {
            "samples_per_second": data.batch / seconds,
            "wait": (waited - self._waited) / seconds,
            "bad": data.ledger.faults,
        }
        row |= data.standing.columns(module.step)
        self._clock, self._waited = now, waited
        self.pending.append(row)
        if len(self.pending) >= self.block:
            with suppress(*([Unsaved] if self.patient else [])):
                self.flush(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.flush(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.add(trainer, self.module.validation)

    def add(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        """Put values into the row of this step, which may be in the file already. At step 0 make the row."""
        self._clock = time.perf_counter()  # the time of the measurement is no part of the next step
        if not self.pending and self._last is not None and trainer.is_global_zero:  # it is in the file: take it back
            offset, row = self._last
            with self.path.open("r+b") as f:
                f.truncate(offset)
            self.pending.append(row)
        if not self.pending and not self.module.step and not self._before:
            self.pending.append({"step": 0})
        if self.pending:
            self.pending[-1] |= values
        elif trainer.is_global_zero:  # the row is from before a stop
            self._before = _amend(self.path, self.module.step, values)
            self.sent.send(trainer, [{"step": self.module.step, **values}])

    def flush(self, trainer: L.Trainer) -> None:
        """Write the rows that wait. Raises Unsaved where they cannot be written; they wait on then."""
        rows, self.pending = self.pending, []
        if not rows or not trainer.is_global_zero:
            return
        rows = [{k: v.item() if isinstance(v, torch.Tensor) else v for k, v in row.items()} for row in rows]
        try:
            with making_room(self.path):
                self._append(rows)
        except Unsaved:
            self.pending = rows
            raise
        self.sent.send(trainer, rows)

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows at the end of the file."""
        names = self.columns or self._name_columns(rows)
        names = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
        if (self.columns or self._before) not in ([], names):
            _widen(self.path, names)
        self.columns = names
        new = not self.path.exists()
        with whole_or_not(self.path), self.path.open("a", newline="", encoding="utf-8") as f:
            writer = csv.DictWriter(f, self.columns, extrasaction="ignore", lineterminator="\n")
            if new:
                writer.writeheader()
            text = [{k: repr(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
            writer.writerows(text[:-1])
            f.flush()
            offset = f.seek(0, 2)
            writer.writerow(text[-1])
        self._last = (offset, dict(rows[-1]))

    def _name_columns(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the columns of a file whose first rows of this process are these."""
        data = self.loaders.data
        losses = [f"source/{name}/loss" for name in data.standing.logged]
        validated = [] if data.val is None else self.module.columns
        trained = next(([name for name in row if name != "skipped"] for row in rows if "loss" in row), [])
        return [*self._before, "step", "loss", *trained, *self.known, *losses, *validated]


def read_row(path: Path, step: int) -> dict[str, float]:
    """Return the values of a step in a run's metrics.csv, by column. {}: it has none."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as f:
        row = next((row for row in csv.DictReader(f) if row["step"] == str(step)), {})
    return {name: float(text) for name, text in row.items() if name and text}


def _widen(path: Path, header: list[str]) -> None:
    """Give the file a header with more columns, which are empty in its rows."""
    with path.open(newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))[1:]
    _write(path, [header, *([*row, *[""] * (len(header) - len(row))] for row in rows)])


def _amend(path: Path, step: int, values: Mapping[str, float]) -> list[str]:
    """Put values into the row of a step, where the file has one, and return the columns."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        header, *rows = csv.reader(f)
    header += [name for name in values if name not in header]
    rows = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    for row in rows:
        if row[0] == str(step):
            for name, value in values.items():
                row[header.index(name)] = repr(value)
    _write(path, [header, *rows])
    return header


def keep_until(path: Path, step: int) -> list[str]:
    """Drop the rows past `step`, so that a resumed run has each step in the file once, and return the columns."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        lines = list(csv.reader(f))
    if step == 0 or not lines:
        path.unlink()
        return []
    header, rows = lines[0], [row for row in lines[1:] if row and row[0].isdigit() and int(row[0]) <= step]
    _write(path, [header, *rows])
    return header


def _write(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(path) as f:
        f.write(text.getvalue().encode())
