"""Times at which evaluators run in a training run, and the places that their scores go to."""

from __future__ import annotations

from typing import Any, final

import lightning as L

from align.lit.checkpoints import Saver
from align.lit.evaluating import Measure, measure_on_first
from align.lit.log import Log, read_row
from align.lit.module import AlignModule
from align.lit.progress import Progress
from align.lit.signals import Stop


@final
class Evaluations(L.Callback):
    """Callback that runs evaluators on the weights that the run starts with, every so many steps, and at the end.

    Its place is after the log and before the writer of checkpoints.

    Args:
        every: steps between two evaluations.
        end: the last step of this fit, which is evaluated too.
        due: evaluate before the first step of this fit: the run is new, or a stop left an evaluation out.
    """

    def __init__(
        self,
        measure: Measure,
        module: AlignModule,
        log: Log,
        saver: Saver,
        progress: Progress,
        stop: Stop,
        *,
        every: int,
        end: int,
        due: bool,
    ):
        self.measure, self.module, self.metrics, self.saver = measure, module, log, saver  # Lightning sets `log`
        self.progress, self.stop, self.every, self.end, self.due = progress, stop, every, end, due
        self._first: dict[str, float] = {}  # scores at step 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.module.step:
            self._first = read_row(self.metrics.path, 0)
        if self.due:
            self.stop.install()
            self._run(trainer)
            self.stop.stop_now(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = self.module.step
        if step % self.every == 0 or step >= self.end:
            self._run(trainer)

    def _run(self, trainer: L.Trainer) -> None:
        scores = measure_on_first(trainer, self.module, self.measure, lambda: self.stop.asked)
        if not scores:
            return
        self.saver.when.check([*self.module.columns, *scores])
        if not self.module.step:
            self._first = scores
        self.metrics.add(trainer, scores)
        self.progress.print_line(trainer, f"step {self.module.step}: {describe(scores, self._first)}")
        self.saver.judge_scores(trainer, scores)


def describe(scores: dict[str, float], first: dict[str, float]) -> str:
    """Return accuracies and the mean recall@1 of each evaluator, with their values at step 0 beside them.

    >>> describe({"val/zeroshot/digit/image/accuracy": 0.5}, {"val/zeroshot/digit/image/accuracy": 0.125})
    'zeroshot/digit/image/accuracy 0.500 (0.125 at step 0)'
    """
    shown = _shorten(scores)
    before = _shorten(first) if first is not scores else {}
    texts = [f"{k} {v:.3f}" + (f" ({before[k]:.3f} at step 0)" if k in before else "") for k, v in shown.items()]
    return "  ".join(texts)


def _shorten(scores: dict[str, float]) -> dict[str, float]:
    """Return the scores of a progress line by name."""
    plain = {name.removeprefix("val/"): value for name, value in scores.items() if name != "val/loss"}
    shown = {name: value for name, value in plain.items() if name.endswith("/accuracy")}
    recalls: dict[str, list[float]] = {}
    for name, value in plain.items():
        if name.endswith("/recall@1") and name.count("/") > 1:
            recalls.setdefault(name.split("/")[0], []).append(value)
    shown |= {f"{name}: mean recall@1": sum(some) / len(some) for name, some in recalls.items()}
    return shown or dict(list(plain.items())[:4])
