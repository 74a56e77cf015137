"""The promise of our encoders: rows in, features out, no rows included, and no row that depends on another."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from align.values import Features


class Encoder(nn.Module, ABC):
    """A leaf sets ``width`` (W) and writes ``encode``. It keeps each constructor argument as an attribute of that name.

    Any ``nn.Module`` with ``width`` and ``forward(values) -> Features`` is an encoder; this class adds the two things
    that are easily forgotten, n = 0 rows and batch normalisation.
    """

    width: int

    @abstractmethod
    def encode(self, values: Tensor) -> Features:
        """(n, ...) values, n >= 1 -> Features(pooled (n, W), tokens (n, L, W) or None, mask (n, L) or None)."""

    def forward(self, values: Tensor) -> Features:
        """As ``encode``, and n = 0 too: then every parameter's gradient is zero, not None."""
        if len(values):
            return self.encode(values)
        one = self.encode(values.new_zeros(1, *values.shape[1:]))
        tokens, mask = (None if x is None else x[:0] for x in one[1:])
        return Features(one.pooled[:0], tokens, mask)

    def train(self, mode: bool = True) -> Self:
        """Batch normalisation, which only other people's models have, keeps its statistics: it stays in evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def freeze_batch_norm(encoder: Encoder, name: str) -> None:
    """To be called once another library's model is in place: evaluation mode for its batch norms, with a warning."""
    if any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        warnings.warn(
            f"{name} has batch normalisation; its statistics stay as they are (evaluation mode), so that no row's "
            "embedding depends on its batch",
            stacklevel=3,
        )
        encoder.train(encoder.training)
