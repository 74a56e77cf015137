"""The training step for Lightning: towers, objective, learning rate. Every draw is a function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from align.grad_cache import Chunks
from align.lit import by_source
from align.lit.finite import Finite, Skip
from align.lit.recalls import columns, recalls
from align.lit.sharding import split
from align.lit.spaces import check_spaces
from align.model import JointModel
from align.model.inside import in_shards
from align.model.mixup import Mixup
from align.model.sharding import share_buffers
from align.objective import Objective
from align.optim import Optim, evaluating, find_two_modes
from align.optim.clipping import average_whole
from align.optim.trial import check_shards
from align.seeds import generator, seed_default
from align.values import Batch, Embeddings


class AlignModule(L.LightningModule):
    """A joint model and its objective under one optimiser.

    Args:
        model: the towers.
        objective: the losses. Its temperatures are trained with the model.
        optim: optimiser and learning rate. Default: `align.optim.Optim()`.
        seed: dropout, device-side augmentation and the losses' draws follow from it and the step.
        steps: number of steps of the whole run.
        planned: number of steps of the learning rate's schedule. Default: `steps`.
        sources: step -> the sources of its batch whose losses are logged. Default: none.
        terms: term -> its weight, of those that train. Default: all, as the objective has them. A validation always
            has all of them, so that its losses can be compared.
        factor: of the learning rate.
        pairs: a validation measures every ordered pair of modalities, also those that no term has.
        chunk: rows that a tower reads at a time, see ``align.grad_cache.Chunks``. Default: all.
        mixup: rows that are mixed of two samples, see ``align.model.mixup``. Default: none.
    """

    def __init__(
        self,
        model: JointModel,
        objective: Objective,
        optim: Optim | None = None,
        *,
        seed: int = 0,
        steps: int = 1,
        planned: int | None = None,
        sources: Callable[[int], Sequence[str]] = lambda step: (),
        terms: Mapping[str, float] | None = None,
        factor: float = 1.0,
        pairs: bool = False,
        chunk: int | dict[str, int] | None = None,
        mixup: Mixup | None = None,
    ):
        super().__init__()
        check_spaces(model, objective)
        self.model, self.objective, self.optim = model, objective, optim or Optim()
        self.seed, self.steps, self.sources = seed, steps, sources
        self.planned = steps if planned is None else planned
        self.terms, self.factor = terms, factor
        self.between = model.modalities if pairs else []  # modalities whose pairs are all validated
        self.mixup = mixup
        self._run = None if chunk is None else Chunks(chunk, model.modalities)
        self.empty: tuple[JointModel, ...] = ()  # outline of a model that is sharded, in a tuple: it is no part of this
        self.step = 0  # positions / data.batch; ours, not Lightning's
        self.values: dict[str, Tensor] = {}  # of the last step, on the device
        self.validation: dict[str, float] = {}  # of the last validation
        self._embeddings: list[Embeddings] = []
        self._losses: list[tuple[Tensor, int]] = []
        self._evaluation = ExitStack()  # open in a validation
        self.finite = Finite(model, objective)

    @property
    def columns(self) -> list[str]:
        """Names of the values of a validation."""
        return columns(self.objective.infos(), self.between)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, of the parameters in no group."""
        return self.factor * self.optim.at(step, self.planned)

    def configure_model(self) -> None:
        """Shard the weights where the strategy does, on every rank, before the optimiser is built."""
        self.empty = split(self.trainer, self.model)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        shards = [p for p in self.model.parameters() if in_shards(p)]
        if shards:
            check_shards(self.optim.build(self.model, self.objective), shards[0])
        return self.optim.build(self.model, self.objective)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.objective.weigh(self.terms)
        self.optim.set_rates(self.trainer.optimizers[0], self.step, self.planned, factor=self.factor)
        seed_default(self.seed, self.step, "dropout", self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.finite.begin(batch)
        place = {"device": self.device}
        generators = {m: generator(self.seed, self.step, m, self.global_rank, **place) for m in self.model.modalities}
        embeddings = self.model(batch, generators=generators, tokens=self.objective.tokens, run=self._run)
        self.finite.note(embeddings)
        loss, values = self.objective(embeddings, generator=self._draw())
        if self.mixup is not None:
            loss = loss + self._mix(batch, generators)
        self.values = {"loss": loss.detach()} | values
        if names := self.sources(self.step):
            one = {names[0]: loss.detach()}
            of = one if len(names) == 1 else by_source.losses(self.objective, embeddings, names, self._draw)
            self.values |= {f"source/{name}/loss": value for name, value in of.items()}
        return loss

    def _mix(self, batch: Batch, generators: Mapping[str, torch.Generator]) -> Tensor:
        assert self.mixup is not None  # asked by the caller
        return self.mixup(
            self.model,
            batch,
            lambda embeddings: self.objective(embeddings, generator=self._draw())[0],
            shared=generator(self.seed, self.step, "mixup"),
            local=generator(self.seed, self.step, "mixup", self.global_rank),
            generators=generators,
            tokens=self.objective.tokens,
        )

    def _draw(self) -> torch.Generator:
        return generator(self.seed, self.step, "loss")

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        largest = self.optim.clip or float("inf")
        if self.empty:
            average_whole(self.parameters())  # DDP would: temperatures are whole on every rank
        self.values["grad_norm"] = self.finite.clip(self, self.values, largest)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.values = {}
        try:
            super().optimizer_step(*args, **kwargs)
        except Skip as skip:  # out of the closure, before the optimiser has changed anything
            self.finite.undo(self.trainer)
            self.values |= {"grad_norm": skip.norm, "skipped": torch.ones(())}
        self.finite.end()
        if not self.values:  # the closure is the training step
            name = type(self.trainer.optimizers[0]).__name__
            raise ValueError(f"optim.optimizer: {name}.step(closure) does not call the closure, which trains")
        if not self.finite.found:
            self.objective.clamp_()  # after the step: a parameter that the forward pass clamps has no gradient
        self.step += 1

    def on_validation_epoch_start(self) -> None:
        self._embeddings, self._losses = [], []
        self.objective.weigh(None)
        if self.empty:
            share_buffers(self.model)
        for optimizer in self.trainer.optimizers:  # none where a trainer only validates
            self._evaluation.enter_context(evaluating(optimizer))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        embeddings = self.model(batch, tokens=self.objective.tokens, run=self._run)
        loss, _ = self.objective(embeddings, generator=generator(self.seed, batch_idx, "validation"))
        self._losses.append((loss.detach(), batch.size))
        pooled = {m: rows._replace(tokens=None, mask=None) for m, rows in embeddings.items()}
        self._embeddings.append(replace(embeddings, rows=pooled).to("cpu"))

    def on_validation_epoch_end(self) -> None:
        total = sum(size for _, size in self._losses)
        loss = sum(float(value) * size for value, size in self._losses) / max(1, total)
        self.validation = {"val/loss": loss} | recalls(self._embeddings, self.objective.infos(), self.between)
        self._embeddings, self._losses = [], []
        self.end_evaluation()

    def end_evaluation(self) -> None:
        """Put the weights that train back in place, after a validation or in the middle of one."""
        self._evaluation.close()

    def on_fit_end(self) -> None:
        for mode in find_two_modes(self.trainer.optimizers[0]):
            mode.eval()
