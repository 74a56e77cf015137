"""Gradient norm of each tower that trains, at the steps that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import lightning as L
import torch
from torch import Tensor, nn

from align.lit.module import AlignModule
from align.model import JointModel


@final
class Gradients(L.Callback):
    """Callback that takes the norms before they are clipped.

    due: step -> True where its norms are asked for. ``norms``: by modality, of the last such step, on the device.
    """

    def __init__(self, module: AlignModule, due: Callable[[int], bool]):
        self.module, self.due = module, due
        self.norms: dict[str, Tensor] = {}
        self.step = -1  # of the norms

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        if self.due(self.module.step + 1):
            self.norms, self.step = take_norms(self.module.model), self.module.step + 1

    def read(self, step: int) -> dict[str, float]:
        """Return the norms of a step, {} where they were not taken."""
        return {m: float(norm) for m, norm in self.norms.items()} if step == self.step else {}


def take_norms(model: JointModel) -> dict[str, Tensor]:
    """Return modality -> 0-d norm of the gradients of its head and encoder, of towers with parameters that train."""
    return {m: _take_norm(model.towers[m]) for m in model.modalities if _list_training(model.towers[m])}


def _list_training(tower: Any) -> list[nn.Parameter]:
    parts = [tower, tower.encoder]  # a tower does not hold an encoder that it borrows
    return [p for p in {id(p): p for part in parts for p in part.parameters()}.values() if p.requires_grad]


def _take_norm(tower: Any) -> Tensor:
    parameters = _list_training(tower)
    grads = [p.grad.detach() for p in parameters if p.grad is not None]
    if not grads:
        return torch.zeros((), device=parameters[0].device)
    norm = torch.nn.utils.get_total_norm(grads)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # pyright: ignore[reportAttributeAccessIssue]
