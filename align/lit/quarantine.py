"""Quarantine list of a run: ``RUN/bad.jsonl`` has its bad members by name, one a line.

``bad.json`` and ``bad-shards.json`` have their counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L

from align.data.ledger import Ledger
from align.files import atomic_write, json_text, write_json
from align.lit.module import AlignModule


class Quarantine(L.Callback):
    """Writer of the list after each step that met a bad member, on the first rank, which knows them all.

    A line has shard, key, member, reason, position (in its epoch), split, epoch and step: that of metrics.csv, or the
    one before a validation. A member has one line, and after ``align.data.ledger.LIMIT`` of them a last line says
    ``more``. A resumed run keeps the lines up to its step, so a member that it meets again has one line. The counts are
    of readings: a member that is met in five epochs, or in five validations, counts five times.
    """

    def __init__(self, run: Path, module: AlignModule, ledger: Ledger):
        self.run, self.module, self.ledger = run, module, ledger

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.ledger.skip_listed(keep_until(self.run / "bad.jsonl", self.module.step))

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any) -> None:
        self._write(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._write(trainer)  # the members over the budget too
        self.count(trainer)

    def count(self, trainer: L.Trainer) -> None:
        """Write the counts."""
        if trainer.is_global_zero:
            write_json(self.run / "bad.json", self.ledger.reasons)
            write_json(self.run / "bad-shards.json", self.ledger.shards)

    def _write(self, trainer: L.Trainer) -> None:
        lines = self.ledger.take()
        if not lines or not trainer.is_global_zero:
            return
        with (self.run / "bad.jsonl").open("a", encoding="utf-8") as f:
            for line in lines:
                place = (
                    {} if line["split"] == "train" else {"step": self.module.step}
                )  # validation has steps of its own
                f.write(json_text({**line, **place}) + "\n")


def keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Drop the lines past ``step``, and one that a crash cut, and return those that stay."""
    if not path.is_file():
        return []
    kept = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.get("step", step + 1) <= step:
            kept.append(line)
    if not kept:
        path.unlink()
        return []
    with atomic_write(path) as f:
        f.write("".join(json_text(line) + "\n" for line in kept).encode())
    return kept
