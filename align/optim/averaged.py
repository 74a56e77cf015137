"""An average of the weights over the steps of a run, for validation and for the model that is saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from align.optim.joined import Joined

KEY, STEPS = "weight_average", "averaged_steps"
"""Names of the average in a parameter's state, and of the number of steps in its group."""


@final
@dataclass(frozen=True)
class Ema:
    """An exponential moving average of the weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017).

    After a step, average = d · average + (1 - d) · weights. It begins as the weights after the first step. The n-th
    update after that has d = min(decay, (1 + n) / (warmup + n)), so that the first weights are soon forgotten: the rule
    of TensorFlow's ExponentialMovingAverage, with 10.

    Args:
        decay: the largest d. 0.999 is an average over the last 1,000 updates or so.
        every: steps from one update to the next.
        warmup: how slowly d grows to ``decay``. 1: it is ``decay`` at once.

    Raises ValueError for a decay that is not in [0, 1), every below 1 or a warmup below 1.
    """

    decay: float = 0.999
    every: int = 1
    warmup: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.every < 1 or self.warmup < 1:
            raise ValueError(
                "optim.ema: decay is in [0, 1), every and warmup are at least 1; "
                f"got decay={self.decay}, every={self.every}, warmup={self.warmup}"
            )

    def decay_of(self, update: int) -> float:
        """Return d of the n-th update, n >= 1."""
        return min(self.decay, (1 + update) / (self.warmup + update))


@final
class Average:
    """The average of an optimiser's parameters, with the two modes of `align.optim.TwoModes`.

    It is updated after each step that the optimiser takes, and not where a step is skipped. It lies in the optimiser's
    state, under ``weight_average``, in float32 at least, so a checkpoint has it. The number of steps is in the groups.

    ``eval()`` gives the parameters the averaged values. `align.optim.evaluating` brings the others back.
    """

    def __init__(self, optimizer: Optimizer, settings: Ema):
        self.settings, self._optimizers = settings, list(list_leaves(optimizer))
        for group in self.param_groups:
            group.setdefault(STEPS, 0)
        optimizer.register_step_post_hook(lambda *_: self.update())
        optimizer.weight_average = self  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    @torch.no_grad()
    def update(self) -> None:
        """Count a step, and move the averages where one is due."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                n, rest = divmod(group[STEPS], self.settings.every)
                group[STEPS] += 1
                if not rest:
                    self._move(optimizer, [p for p in group["params"] if p.grad is not None], n)

    def _move(self, optimizer: Optimizer, parameters: list[Tensor], update: int) -> None:
        averages, values = [], []
        for p in parameters:
            state, value = optimizer.state[p], p.detach().to(torch.promote_types(p.dtype, torch.float32))
            if KEY not in state:  # the first update, or a parameter that trains for the first time
                state[KEY] = value.clone()
            else:
                averages.append(state[KEY])
                values.append(value)
        if averages:
            d = self.settings.decay_of(max(1, update))
            torch._foreach_lerp_(averages, values, 1 - d)  # pyright: ignore[reportPrivateImportUsage]

    def train(self) -> None:
        """Do nothing: the values that train come back with `align.optim.evaluating`."""

    @torch.no_grad()
    def eval(self) -> None:
        """Give each parameter its average. One without an average keeps its value."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if KEY in optimizer.state.get(p, {}):
                        p.copy_(optimizer.state[p][KEY])


def drop_average(state: dict[str, Any]) -> None:
    """Take the average out of an optimiser's ``state_dict``, in place, for a run that has none."""
    for values in state["state"].values():
        values.pop(KEY, None)
    for group in state["param_groups"]:
        group.pop(STEPS, None)


def list_leaves(optimizer: Optimizer) -> Iterator[Optimizer]:
    """Yield the optimisers inside a Joined, or the optimiser itself."""
    if isinstance(optimizer, Joined):
        for part in optimizer.parts:
            yield from list_leaves(part)
    else:
        yield optimizer
