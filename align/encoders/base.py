"""The promise of our encoders: rows in, features out, no rows included, and no row that depends on another."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from align.values import Features, Origin, Values


class Encoder(nn.Module, ABC):
    """Abstract: a leaf sets ``width`` (W), writes ``encode`` and keeps each constructor argument as an attribute.

    Any ``nn.Module`` with ``width`` and ``forward(values) -> Features`` is an encoder. This class adds two things that
    are easily forgotten: n = 0 rows and batch normalisation.
    """

    width: int
    origin: Origin | None = None
    """The published weights that the encoder started from, None where it has none."""
    videos: bool = False
    """True for an encoder that reads the frames and the mask of ``align.preprocess.Video``."""
    grid: tuple[int, int] | None = None
    """Height and width of the tokens' grid, row by row from the top left. None: no grid, or one that follows the values
    (``grid_of``)."""
    grid_start: int = 0
    """Tokens in front of the grid's, such as a class token."""

    def wants(self) -> dict[str, Any] | None:
        """Return class_path and init_args of the preprocess that the weights were trained with, None for any."""
        return None

    def also_wants(self) -> Sequence[dict[str, Any]]:
        """Return those of other preprocesses that the weights were trained with too, such as the one of videos."""
        return ()

    def grid_of(self, values: Any) -> tuple[int, int] | None:
        """Return the grid of the tokens that ``encode`` gives for these values, None where they have none."""
        return self.grid

    def at_points(self, values: Any, tokens: Tensor | None) -> Tensor | None:
        """Return features (n, P, W) at the points of clouds (n, P, channels), None for an encoder of anything else.

        tokens: those that ``encode`` gives for these clouds.
        """
        return None

    @abstractmethod
    def encode(self, values: Any) -> Features:
        """Return features of n >= 1 values (n, ...) or a dict of them: pooled (n, W), tokens (n, L, W), mask (n, L).

        tokens and mask may be None.
        """

    def forward(self, values: Values) -> Features:
        """Return ``encode``'s features, for n = 0 too. Then every parameter's gradient is zero, not None."""
        first = next(iter(values.values())) if isinstance(values, dict) else values
        if first.shape[0]:  # len() would fix the number of rows in an exported graph
            return self.encode(values)
        one = self.encode({k: _blank(x) for k, x in values.items()} if isinstance(values, dict) else _blank(values))
        tokens, mask = (None if x is None else x[:0] for x in one[1:])
        return Features(one.pooled[:0], tokens, mask)

    def train(self, mode: bool = True) -> Self:
        """Set the mode. Batch normalisation, which only others' models have, stays in evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def _blank(values: Tensor) -> Tensor:
    return values.new_zeros(1, *values.shape[1:])


def freeze_batch_norm(encoder: Encoder, name: str) -> None:
    """Put the batch norms of another library's model into evaluation mode, with a warning.

    Call it when the model is in place.
    """
    if any(isinstance(module, _BatchNorm) for module in encoder.modules()):
        warnings.warn(
            f"{name} has batch normalisation; its statistics stay as they are (evaluation mode), so that no row's "
            "embedding depends on its batch",
            stacklevel=3,
        )
        encoder.train(encoder.training)
