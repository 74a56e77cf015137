"""Alarms while a run trains: a line on stderr with advice, and a line of ``RUN/alarms.jsonl``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from align.diagnostics.lines import append_line, keep_until
from align.diagnostics.read import ALARMS, Alarm
from align.diagnostics.watch import Alarms, Glance, Term
from align.diagnostics.watch.glance import EVERY
from align.diagnostics.watch.memory import count_used
from align.lit.gradients import Gradients
from align.lit.loaders import Loaders
from align.lit.module import AlignModule
from align.lit.progress import Progress
from align.losses import ConFu, GatedSymile, Gram, InfoNCE, LateInteraction, OneVsAll, Symile, Triangle
from align.losses.temperature import Temperature
from align.values import Embeddings

FLAT = (InfoNCE, LateInteraction, Gram, Triangle, Symile, OneVsAll, ConFu, GatedSymile)
"""Losses that are a softmax over the candidates in the batch."""


@final
class Watching(L.Callback):
    """Callback that hands the values of every tenth step to the watchers, on the first rank.

    The values are those of the step itself and of this rank's rows, so that nothing is computed anew but the mean row
    of each modality.
    """

    def __init__(self, run: Path, module: AlignModule, loaders: Loaders, progress: Progress, gradients: Gradients):
        self.path, self.module, self.loaders, self.progress = run / ALARMS, module, loaders, progress
        self.gradients = gradients
        self.alarms = Alarms()
        self._spread: dict[str, Tensor] = {}
        self._rows: dict[str, int] = {}
        self._handle: Any = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        said = [Alarm(*(line[name] for name in Alarm._fields)) for line in keep_until(self.path, self.module.step)]
        self.alarms = Alarms(self.loaders.keep, said)

        def note(model: Any, given: Any, embeddings: Any) -> None:  # a function: a copy of the model copies its hooks
            if model.training and is_due(self.module.step + 1):
                self._note(embeddings)

        self._handle = self.module.model.register_forward_hook(note)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._remove()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._remove()

    def _remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    @torch.no_grad()
    def _note(self, embeddings: Embeddings) -> None:
        for m, rows in embeddings.items():
            values = rows.values
            self._rows[m] = rows.n
            if isinstance(values, Tensor) and rows.n:
                self._spread[m] = 1 - F.normalize(values.detach(), dim=1).mean(dim=0).square().sum()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = self.module.step
        if not trainer.is_global_zero or not is_due(step):
            return
        for alarm in self.alarms.look(self._look(step, trainer.world_size)):
            append_line(self.path, alarm._asdict())
            self.progress.print_line(trainer, f"alarm at step {alarm.step}: {alarm.text}; {alarm.advice}")

    def _look(self, step: int, world: int) -> Glance:
        module, data = self.module, self.loaders.data
        spread, self._spread = self._spread, {}
        norms = self.gradients.norms if self.gradients.step == step else {}
        kept = {("spread", m): x for m, x in spread.items()} | {("gradient", m): x for m, x in norms.items()}
        kept |= {("value", name): x for name, x in module.values.items()}
        found = dict(zip(kept, read_numbers([*kept.values()]), strict=True))
        standing = data.standing.columns(step)
        epochs = {name.split("/")[1]: epoch for name, epoch in standing.items() if name.endswith("/epoch")}
        peak = module.factor * module.optim.lr
        used = count_used()
        memory = {} if used is None else {"memory": used}
        if module.device.type == "cuda":
            memory["GPU memory"] = torch.cuda.memory_allocated(module.device)
        return Glance(
            step,
            rate=module.rate(step - 1) / peak if peak else 1.0,
            spread={m: found["spread", m] for m in spread},
            rows=dict(self._rows),
            terms=self._list_terms({name: x for (kind, name), x in found.items() if kind == "value"}, world),
            gradients={m: found["gradient", m] for m in norms},
            epochs=epochs,
            memory=memory,
            full=min(epochs.values()) > 0 if epochs else step >= data.steps_per_epoch,
        )

    def _list_terms(self, values: dict[str, float], world: int) -> dict[str, Term]:
        """Return the terms that count in this step, one for each contrast. values: of the step's log."""
        objective, found = self.module.objective, {}
        for name in objective.weights:
            loss, contrasts = objective.losses[name], objective.contrasts[name]
            inner = next((part for part in loss.modules() if isinstance(part, Temperature)), None)
            for contrast in contrasts:
                several = len(contrasts) > 1
                key = f"{name}/{contrast.name}" if several else name
                if key not in values or (not several and not contrast.weight):
                    continue
                found[key] = Term(
                    name,
                    values[key] if several else values[key] / contrast.weight,
                    tuple(world * self._rows.get(m, 0) for m in contrast.modalities),
                    isinstance(loss, FLAT),
                    values[f"{name}/scale"],
                    float("inf") if inner is None else inner.limit,
                    inner is not None and inner.log_scale.requires_grad,
                )
        return found


def read_numbers(values: Sequence[Tensor]) -> list[float]:
    """Return the numbers in 0-d tensors, with one wait for a GPU."""
    place = next((x.device for x in values if x.device.type != "cpu"), torch.device("cpu"))
    return torch.stack([x.detach().float().reshape(()).to(place) for x in values]).tolist() if values else []


def is_due(step: int) -> bool:
    """Return True for a step that the watchers look at."""
    return step % EVERY == 0
