"""The optimiser of a run, and its learning rate as a function of the step."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from functools import partial
from typing import final

import torch
from torch import nn
from torch.optim import Optimizer

from align.model.inside import model_inside
from align.optim.averaged import Average, Ema
from align.optim.fused import fused_adamw
from align.optim.groups import Group, named_parameters, parameter_groups
from align.optim.joined import Factory, Joined
from align.optim.modes import find_two_modes
from align.optim.rates import Rule, scale_rate
from align.optim.schedules import Cosine, Schedule, WarmUp

_BETAS, _EPS, _COSINE = (0.9, 0.98), 1e-8, Cosine()


@final
class Optim:
    """An optimiser, its parameter groups, the schedule of its learning rate, and gradient clipping.

    By default AdamW (Loshchilov and Hutter 2019) with linear warm-up and cosine decay. Any other is an import path:

    .. code-block:: yaml

        optim:
          lr: 0.02
          optimizer: {class_path: torch.optim.SGD, init_args: {momentum: 0.9}}
          schedule: {class_path: align.optim.Linear, init_args: {warmup: 100}}
          groups:
            model.towers.image.encoder.*: {lr: 0.1}
            "*.log_scale": {lr: 2, schedule: align.optim.Constant}

    An optimiser with ``train()`` and ``eval()``, as schedule-free ones, is put into the right mode: models are
    validated and saved with the weights that are good for evaluation. It warms up by itself, so give it
    ``schedule: align.optim.Constant``.

    Args:
        lr: the highest learning rate. It is given here, not among the optimiser's arguments.
        weight_decay: for matrices only. It is given here, not among the optimiser's arguments. AdamW takes it from the
            weights, torch.optim.SGD adds it to the gradient.
        betas: decay rates of AdamW's two moments. CLIP's are (0.9, 0.98). Not for another optimiser.
        eps: added by AdamW to the root of the second moment. Not for another optimiser.
        warmup: steps of linear warm-up, below 1 a fraction of all steps. Not with a `schedule`, which has its own.
        final: the learning rate at the last step, as a fraction of `lr`. Not with a `schedule`, which has its own.
        clip: the largest norm of the gradient, 0 for none.
        replan: plan the schedule anew where a run that has come to its end gets more steps. Otherwise they have its
            final learning rate.
        optimizer: import path of an optimiser and its other arguments, as in {class_path: torch.optim.SGD, init_args:
            {momentum: 0.9}} or --optim.optimizer torch.optim.SGD --optim.optimizer.momentum 0.9. Two of them, Muon for
            matrices and AdamW for the rest: align.optim.Joined. Default: AdamW with `betas` and `eps`.
        schedule: import path of a function (step, steps) that returns the learning rate as a fraction of `lr`, or of a
            class of such. Here: align.optim.Cosine and Linear, with warmup and final, and Constant, with warmup.
            Default: Cosine with `warmup` and `final`.
        lr_batch: the batch that `lr` is stated for. With `data.batch` twice as large, the rate is twice `lr`.
            Default: `lr` is the rate of any batch.
        lr_rule: "linear", the rate grows as the batch, or "sqrt", as its root, which suits Adam.
        ema: {decay: 0.999, every: 1, warmup: 10}, an exponential moving average of the weights. Models are validated
            and saved with it. Default: none.
        groups: {pattern: {lr: factor, weight_decay: 0.1, schedule: align.optim.Constant}}, each of the three optional.
            The first pattern that a parameter's name matches counts. Names are model.towers.image.head.weight or
            objective.losses.clip.log_scale, and ``*`` is anything.

    Raises ValueError for a number out of its range, for `betas` or `eps` beside another optimiser, and for `warmup` or
    `final` beside another schedule.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = _BETAS,
        eps: float = _EPS,
        warmup: float = _COSINE.warmup,
        final: float = _COSINE.final,
        clip: float = 1.0,
        replan: bool = False,
        optimizer: Factory | None = None,
        schedule: Schedule | None = None,
        groups: dict[str, Group] | None = None,
        lr_batch: int | None = None,
        lr_rule: Rule = "linear",
        ema: Ema | None = None,
    ):
        if lr_batch is not None and lr_batch < 1:
            raise ValueError(f"optim.lr_batch is a number of samples, at least 1; got {lr_batch}")
        if lr <= 0 or warmup < 0 or clip < 0:
            raise ValueError(
                f"lr must be above 0, warmup and clip at least 0; got lr={lr}, warmup={warmup}, clip={clip}"
            )
        if optimizer is not None and (tuple(betas), eps) != (_BETAS, _EPS):
            raise ValueError("optim.betas and optim.eps are AdamW's; give another its own: optim.optimizer.betas")
        if schedule is not None and (warmup, final) != (_COSINE.warmup, _COSINE.final):
            raise ValueError(
                "optim.warmup and optim.final are the default schedule's; give another its own: optim.schedule.warmup"
            )
        self._stated = lr  # where lr is that of another batch
        self.lr, self.weight_decay, self.betas, self.eps = lr, weight_decay, betas, eps
        self.warmup, self.final, self.clip, self.replan = warmup, final, clip, replan
        self.lr_rule: Rule = lr_rule
        self.lr_batch, self.ema = lr_batch, ema
        self.optimizer: Factory = optimizer or partial(fused_adamw, lr=lr, betas=betas, eps=eps)
        self.schedule: Schedule = schedule or Cosine(warmup, final)
        self.groups: Mapping[str, Group] = groups or {}

    def build(self, model: nn.Module, objective: nn.Module) -> Optimizer:
        """Return the optimiser of these modules' parameters, in training mode.

        A parameter has the rate of its group, times that of the model's ``rates``. Each group keeps as ``initial`` the
        values that it begins with, for the checkpoint of a run.

        Raises ValueError for a pattern without parameters, and where the optimiser refuses its arguments.
        """
        named, rates = named_parameters(model, objective), model_inside(model).rates
        made = parameter_groups(named, self.groups, weight_decay=self.weight_decay, rates=rates)
        try:
            optimizer = self.optimizer([{"lr": self.lr, **group} for group in made])
        except Exception as error:
            hint = "; align.optim.Joined gives it the matrices, and the rest to another" if "2D" in str(error) else ""
            text = " ".join(str(error).split())
            raise ValueError(f"optim.optimizer refuses its arguments: {text}{hint}") from error
        if not isinstance(optimizer, Optimizer):
            raise ValueError(f"optim.optimizer makes a {type(optimizer).__name__}, which is no torch.optim.Optimizer")
        self._refuse_second_values(optimizer)
        for group in optimizer.param_groups:
            names = set(group) - {"params", "param_names", "pattern"}
            group["initial"] = {k: group[k] for k in sorted(names) if not isinstance(group[k], torch.Tensor)}
        modes = find_two_modes(optimizer)
        for inside in modes:
            inside.train()
        if self.ema is not None:
            if modes:
                name = type(modes[0]).__name__
                raise ValueError(f"optim.ema: {name} averages the weights already; leave one of the two out")
            Average(optimizer, self.ema)
        return optimizer

    def for_batch(self, batch: int) -> Optim:
        """Return these settings with the learning rate of a batch of so many samples, see ``lr_batch``."""
        if self.lr_batch is None:
            return self
        scaled = copy.copy(self)
        scaled.lr, scaled.lr_batch = self.lr * scale_rate(batch, self.lr_batch, self.lr_rule), None
        return scaled

    def _refuse_second_values(self, optimizer: Optimizer) -> None:
        """Raise ValueError where the optimiser has a rate or decay among its arguments, which those of groups hide."""
        for part in optimizer.parts if isinstance(optimizer, Joined) else ():
            self._refuse_second_values(part)
        arguments = inspect.signature(type(optimizer).__init__).parameters
        for key, here in (("lr", self._stated), ("weight_decay", self.weight_decay)):
            given = optimizer.defaults.get(key)
            if key in arguments and given not in (None, here, arguments[key].default):
                raise ValueError(
                    f"optim.optimizer has {key}={given}, but optim.{key}={here} counts for every group: "
                    f"give optim.{key}, or optim.groups"
                )

    def check(self, model: nn.Module, objective: nn.Module, steps: int) -> None:
        """Raise ValueError where no optimiser can be built, or a schedule has no rate for one of about 100 steps."""
        self.build(model, objective)
        for step in {*range(0, steps, max(1, steps // 100)), steps - 1}:
            for pattern in (None, *self.groups):
                self.at(step, steps, pattern)

    def at(self, step: int, steps: int, pattern: str | None = None) -> float:
        """Return the learning rate of a step, also after the end of the schedule. A pure function.

        pattern: that of the group, None for the parameters in no group.

        Raises ValueError where the schedule fails, or returns no finite number of at least 0.
        """
        group = Group() if pattern is None else self.groups[pattern]
        schedule, lr = group.schedule or self.schedule, self.lr * group.lr
        where = "optim.schedule" if group.schedule is None else f"optim.groups.{pattern}.schedule"
        try:
            rate = schedule(step, steps, lr) if isinstance(schedule, WarmUp) else lr * schedule(step, steps)
        except Exception as error:
            raise ValueError(f"{where} fails at step {step} of {steps}: {type(error).__name__}: {error}") from error
        if not 0 <= rate < math.inf:
            raise ValueError(
                f"{where} returns {rate / lr} at step {step} of {steps}; a factor is finite and at least 0"
            )
        return rate

    def set_rates(self, optimizer: Optimizer, step: int, steps: int, *, factor: float = 1.0) -> None:
        """Give each group of an optimiser that `build` made its learning rate of a step, times a factor."""
        for group in optimizer.param_groups:
            rate = factor * self.at(step, steps, group["pattern"]) * group.get("lr_factor", 1.0)
            if isinstance(group["lr"], torch.Tensor):  # torchao's optimisers read it from the tensor that they made
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


AdamW = Optim  # its name while it knew no other optimiser: AdamW(lr=..., betas=...) goes on to work
