"""Optimisers that train some weights and evaluate others, as schedule-free ones (Defazio et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.optim import Optimizer

from align.optim.joined import Joined


@runtime_checkable
class TwoModes(Protocol):
    """An optimiser whose parameters have other values in training than in evaluation, as schedule-free ones."""

    param_groups: list[dict[str, Any]]

    def train(self) -> None: ...

    def eval(self) -> None: ...


def find_two_modes(optimizer: Optimizer) -> list[TwoModes]:
    """Return the optimisers with two modes: this one, those inside a Joined, or none. An average of weights is one."""
    averaged: list[TwoModes] = [average] if (average := getattr(optimizer, "weight_average", None)) is not None else []
    if isinstance(optimizer, Joined):
        return [inside for part in optimizer.parts for inside in find_two_modes(part)] + averaged
    return [optimizer, *averaged] if isinstance(optimizer, TwoModes) else averaged


@contextmanager
def evaluating(optimizer: Optimizer) -> Iterator[dict[Tensor, Tensor]]:
    """Let the parameters have the values that are good for evaluation, inside the block.

    Yields a copy of the values that train, by parameter, or {} where the optimiser has one mode. They come back to the
    bit: ``eval()`` and ``train()`` of schedule-free optimisers round, and a validation or a save would change the run.
    """
    modes = find_two_modes(optimizer)
    with torch.inference_mode(False), torch.no_grad():  # Lightning validates in inference mode
        trained = {p: p.detach().clone() for mode in modes for g in mode.param_groups for p in g["params"]}
        for mode in modes:
            mode.eval()
    try:
        yield trained
    finally:
        with torch.inference_mode(False), torch.no_grad():
            for mode in modes:
                mode.train()
            for p, values in trained.items():
                p.copy_(values)
