"""End of a run: RUN/model. And the removal of its files by ``--fresh``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.checkpoint import find_checkpoint, find_damage, list_files, read_index
from align.checkpoint.source import completes
from align.diagnostics.read import ALARMS, ENVIRONMENT, MEASURES
from align.files import atomic_folder, read_json
from align.lit.whole import write_whole


def has_model(run: Path, known: Mapping[str, Any]) -> bool:
    """Return True where RUN/model is there and is the best checkpoint, or the only copy of it."""
    model, best = run / "model", run / "checkpoints" / (known.get("best") or known["last"])
    if not (model / "model.json").is_file() or not all((model / name).is_file() for name in list_files(model)):
        return False
    only = read_index(run).get("best") != known.get("best")
    same = read_json(model / "model.json") == read_json(best / "model.json")
    return only or same or completes(model, best)


def write_model_folder(run: Path) -> None:
    """Write RUN/model: the best checkpoint (the last, where nothing was monitored) without its training state."""
    best = find_checkpoint(run, "best")
    if line := find_damage(best, training=False):
        raise ValueError(f"{line}; the same command goes on without that checkpoint")
    with atomic_folder(run / "model") as work:
        write_whole(best, work, run)


def clear(run: Path) -> None:
    """Remove all that an earlier run has left in its folder."""
    for name in ("checkpoints", "tensorboard", "wandb", "model"):
        shutil.rmtree(run / name, ignore_errors=True)
    found = ("metrics.csv", "bad.jsonl", "bad.json", "bad-shards.json", "skipped.jsonl", "stages.json", "fork.json")
    for name in (*found, MEASURES, ALARMS, ENVIRONMENT, "loggers.json", "mlflow.db"):
        (run / name).unlink(missing_ok=True)
