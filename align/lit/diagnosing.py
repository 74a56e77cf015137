"""Measures of the slice while a run trains: ``RUN/diagnostics.jsonl``, and columns ``diagnose/…`` of metrics.csv."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any, final

import lightning as L
import numpy as np
import torch

from align.diagnostics.lines import append_line, keep_until
from align.diagnostics.measure import BINS, HIGH, LOW, count_cosines, measure
from align.diagnostics.read import MEASURES
from align.diagnostics.slice import Slice, SliceReader
from align.diagnostics.table import Table, make_table
from align.distributed import exchange
from align.lit.gradients import Gradients
from align.lit.log import Log
from align.lit.module import AlignModule
from align.losses.kinds import KINDS
from align.model.sharding import share_buffers
from align.objective import Objective
from align.optim import evaluating
from align.values import Embeddings

COLUMN = "diagnose/"


@final
class Diagnosing(L.Callback):
    """Callback that measures the slice: before the first step, every so many steps, and at the end of a stage.

    Every rank embeds its share, and the first one measures and writes. Random states, modes and weights stay as they
    are. Its place is after the log and before the writer of checkpoints, so that a checkpoint's step has its row.

    Args:
        slices: reader of the slice.
        every: steps between two measurements.
        end: the last step of this fit, which is measured too.
        gradients: gets the norms of each tower.
    """

    def __init__(
        self,
        run: Path,
        module: AlignModule,
        log: Log,
        slices: SliceReader,
        gradients: Gradients,
        *,
        every: int,
        end: int,
    ):
        self.path, self.module, self.metrics, self.slices = run / MEASURES, module, log, slices
        self.gradients, self.every, self.end = gradients, every, end
        self._labels: list[Any] | None = None

    def is_due(self, step: int) -> bool:
        """Return True for a step at which the slice is measured."""
        return step % self.every == 0 or step >= self.end

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            keep_until(self.path, self.module.step)
        if not self.module.step:
            self._measure(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.is_due(self.module.step):
            self._measure(trainer)

    def _measure(self, trainer: L.Trainer) -> None:
        begin = time.perf_counter()
        part = self.slices.read(trainer.global_rank, trainer.world_size)
        if part is None:
            if trainer.is_global_zero and not self.module.step:
                reason = "a pipeline is read in its order alone" if not self.slices.size else "there are fewer samples"
                print(f"diagnose: no slice is measured, because {reason}", file=sys.stderr, flush=True)
            return
        with set_aside(trainer, self.module):
            batches = [self._embed(trainer, batch) for batch in part.parts]
        table = make_table(batches, part, self._gather_labels(part))
        if trainer.is_global_zero:
            self._write(trainer, table, part, begin)

    def _embed(self, trainer: L.Trainer, batch: Any) -> Embeddings:
        batch = trainer.precision_plugin.convert_input(batch)
        batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        with trainer.precision_plugin.val_step_context(), torch.no_grad():
            return self.module.model(batch, run=self.module._run)

    def _gather_labels(self, part: Slice) -> list[Any]:
        if self._labels is None:
            said = exchange(json.dumps(part.labels, default=str).encode())
            self._labels = [label for labels in said for label in json.loads(labels)]
        return self._labels

    def _write(self, trainer: L.Trainer, table: Table, part: Slice, begin: float) -> None:
        step, objective = self.module.step, self.module.objective
        trained = list_trained(objective)
        scores = measure(table, objective.infos(), trained)
        scores |= {f"gradient/{m}": norm for m, norm in self.gradients.read(step).items()}
        columns = {COLUMN + name: value for name, value in scores.items()}
        if step:
            self.metrics.add(trainer, columns)
        else:
            gradients = [f"{COLUMN}gradient/{m}" for m in self.module.model.modalities]
            self.metrics.known = [*self.metrics.known, *columns, *gradients]
        scales = {f"scale/{name}": float(objective.losses[name].scale.detach()) for name in objective.terms}  # pyright: ignore[reportCallIssue]
        line = {
            "step": step,
            "scores": {**scores, **scales},
            "bins": [LOW, HIGH, BINS],
            "histograms": count_cosines(table),
            "slice": {"of": part.of, "samples": part.size},
            "trained": sorted("+".join(sorted(pair)) for pair in trained),
            "seconds": round(time.perf_counter() - begin, 4),
        }
        append_line(self.path, line)


def list_trained(objective: Objective) -> set[frozenset[str]]:
    """Return the pairs of modalities that a term of the objective joins. A regulariser joins none."""
    return {
        frozenset(pair)
        for name, contrasts in objective.contrasts.items()
        if KINDS[str(objective.losses[name].kind)].read is not None
        for contrast in contrasts
        for pair in combinations(contrast.modalities, 2)
    }


@contextmanager
def set_aside(trainer: L.Trainer, module: AlignModule) -> Iterator[None]:
    """Put the model into evaluation mode, with the weights that would be saved, and every random state back after.

    Ranks have the buffers of rank 0, such as running statistics, which are the ones that are saved.
    """
    if trainer.world_size > 1:
        share_buffers(module.model)
    draws, numbers = random.getstate(), np.random.get_state()
    devices = [module.device] if module.device.type == "cuda" else []
    modes = [(part, part.training) for part in module.model.modules()]
    try:
        with torch.random.fork_rng(devices), evaluating(trainer.optimizers[0]):
            module.model.eval()
            yield
    finally:
        for part, mode in modes:
            part.training = mode
        random.setstate(draws)
        np.random.set_state(numbers)
