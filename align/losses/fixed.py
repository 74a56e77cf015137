"""What a loss without a temperature has in its place."""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor, nn


class Fixed(nn.Module, ABC):
    """Abstract: a loss over embeddings that learns nothing itself. Its scale is 1 for ever: scoring reads the bare
    cosines, and the log shows 1."""

    kind: str  # as in ``align.objective``
    scale: Tensor  # (1,)
    bias: nn.Parameter | None

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.register_parameter("bias", None)

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Nothing depends on D, M or N."""

    def clamp_(self) -> None:
        """There is nothing to clamp."""
