"""The learned temperature of the losses: its start and its limit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from align.losses.loss import Loss

CLIP_START = 1 / 0.07
CLIP_LIMIT = 100.0


class Temperature(Loss, ABC):
    """Abstract: a loss over embeddings with a learned scale.

    Each starts so that it trains (a test: the loss falls within 50 steps for M = 2 to 5, D = 16 to 2048):

        loss                            scale at the start             limit            bias at the start
        InfoNCE, LateInteraction, Gram  1 / 0.07 = 14.3 (CLIP)         100
        OneVsAll, ConFu                 the same                       100
        SigLIP                          10                             100              -log(N - 1)
        Symile, GatedSymile             max(10, √D) · D^(M/2 - 1)      100·D^(M/2 - 1)

        Symile's by D:     16      64       512        2048
            M = 2          10      10        23          45
            M = 3          40      80       512        2048
            M = 4         160     640     11585       92682
            M = 5         640    5120    262144     4194304

    The parameter is ``log_scale`` of shape (1,), as FSDP2 refuses scalars. ``clamp_`` is called after the optimiser's
    step: a clamp in the forward pass has no gradient above its limit.

    start_scale: the scale at the start. None takes the value that ``start`` derives.
    max_scale: the largest scale. None takes the value that ``start`` derives.
    learn_scale: False keeps the scale at its start.
    """

    def __init__(self, start_scale: float | None, max_scale: float | None, learn_scale: bool):
        super().__init__()
        for name, value in (("start_scale", start_scale), ("max_scale", max_scale)):
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"{name} is a positive number; got {value}")
        self.start_scale = start_scale
        self.max_scale = max_scale
        self.learn_scale = learn_scale
        self.limit = CLIP_LIMIT if max_scale is None else max_scale
        self.log_scale = nn.Parameter(torch.zeros(1), requires_grad=learn_scale)
        self._set(CLIP_START, CLIP_LIMIT)

    @property
    def scale(self) -> Tensor:
        """Return the multiplier, (1,), in float32 at least."""
        return self.log_scale.to(torch.promote_types(self.log_scale.dtype, torch.float32)).exp()

    @abstractmethod
    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set the scale and its limit for embeddings of D = dim, M = modalities at once and N = batch samples."""

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the scale at or below its limit. Call it after the optimiser's step."""
        self.log_scale.clamp_(max=math.log(self.limit))

    @torch.no_grad()
    def _set(self, scale: float, limit: float) -> None:
        self.limit = limit if self.max_scale is None else self.max_scale
        self.log_scale.fill_(math.log(scale if self.start_scale is None else self.start_scale))
        self.clamp_()


def start_product(dim: int, modalities: int) -> tuple[float, float]:
    """Return the scale at the start, and its limit, of a product of M rows of D coordinates, as ``Symile`` says."""
    spread = dim ** (modalities / 2 - 1)
    return max(10.0, math.sqrt(dim)) * spread, 100.0 * spread


class ClipTemperature(Temperature):
    """Abstract: a temperature with CLIP's start, 1/0.07, and CLIP's limit, 100, whatever D, M and N are.

    It fits logits that differ as cosines do: cosines, means of their maxima, volumes and areas between unit vectors.
    """

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set CLIP's scale and limit."""
        self._set(CLIP_START, CLIP_LIMIT)
