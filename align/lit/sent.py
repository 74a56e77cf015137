"""Rows of metrics.csv on their way to the loggers: TensorBoard, W&B, MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import lightning as L
import yaml
from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger

from align.files import read_json, write_json
from align.lit.loggers import FILE, is_noted, quiet


@final
class Sent(L.Callback):
    """Sender of rows to the loggers, each value of a step one time.

    A run that was killed has sent steps past its last checkpoint. It takes them anew, to the same bits, and does not
    send them anew. So W&B's and MLflow's last step is noted before its values are sent: the values that a kill cuts off
    are in metrics.csv alone. TensorBoard forgets the steps past the checkpoint by itself.
    """

    def __init__(self, run: Path):
        self.path, self.config = run / FILE, run / "config.yaml"
        self._notes: dict[str, Any] = {}
        self._last: dict[bool, tuple[int, set[str]]] = {}  # noted in the file -> the last step, and its names

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = {True: (-1, set()), False: (-1, set())}
        kept = [one for one in trainer.loggers if is_noted(one)]
        if not kept or not trainer.is_global_zero:
            return
        self._notes = read_json(self.path) if self.path.is_file() else {}
        self._last[True] = (self._notes.get("step", -1), set(self._notes.get("names", ())))
        ids = {}
        for one in kept:
            with quiet():
                ids |= {"wandb": str(one.experiment.id)} if isinstance(one, WandbLogger) else {}
                ids |= {"mlflow": str(one.run_id)} if isinstance(one, MLFlowLogger) else {}
        if not ids.items() <= self._notes.items():
            self._notes |= ids
            write_json(self.path, self._notes)
            if self.config.is_file():
                for one in kept:
                    one.log_hyperparams(yaml.safe_load(self.config.read_text(encoding="utf-8")))

    def send(self, trainer: L.Trainer, rows: Sequence[Mapping[str, Any]]) -> None:
        """Send rows of metrics.csv, on the first rank. A row that comes again is sent for its new values alone."""
        for noted in (False, True):
            to = [one for one in trainer.loggers if is_noted(one) == noted]
            new = self._take_new(rows, noted) if to else []
            for step, values in new:
                for one in to:
                    _log_row(one, values, step)

    def _take_new(self, rows: Sequence[Mapping[str, Any]], noted: bool) -> list[tuple[int, dict[str, float]]]:
        """Return the steps and values that were not sent, and note them as sent."""
        last, names = self._last[noted]
        found = []
        for row in rows:
            step = int(row["step"])
            if step < last:
                continue
            names = names if step == last else set()
            values = {k: v for k, v in row.items() if k != "step" and v is not None and k not in names}
            last, names = step, names | values.keys()
            if values:
                found.append((step, values))
        if noted and found:
            self._notes |= {"step": last, "names": sorted(names)}
            write_json(self.path, self._notes)
        self._last[noted] = (last, names)
        return found


def _log_row(logger: Any, values: Mapping[str, float], step: int) -> None:
    """Send a row to a logger. TensorBoard gets it as one event, which costs a third of an event for each value."""
    if isinstance(logger, TensorBoardLogger) and hasattr(logger.experiment, "_get_file_writer"):
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        logger.experiment._get_file_writer().add_summary(Summary(value=points), step)
    else:
        logger.log_metrics(_rename(values) if isinstance(logger, MLFlowLogger) else dict(values), step=step)


def _rename(values: Mapping[str, float]) -> dict[str, float]:
    """Return values by names that MLflow takes: ``recall_at_1`` for ``recall@1``, ``a-b`` for ``a+b``."""
    return {name.replace("@", "_at_").replace("+", "-"): value for name, value in values.items()}
