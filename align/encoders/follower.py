"""The promise of a tower that reads another tower: its rows are made of the other's tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from align.values import Features, Origin, Rows, Values


class Lead(NamedTuple):
    """The tower that is read, in one forward pass.

    rows: its m rows as they were collated. maps: (m, D, H, W), its embedded tokens as maps, not normalised. read: runs
    the same tower on other values (k, ...), and returns their maps (k, D, H, W).
    """

    rows: Rows
    maps: Tensor
    read: Callable[[Values], Tensor]


class Follower(nn.Module, ABC):
    """Abstract: an encoder whose input is made of the tokens of tower ``of``, which the model runs first.

    ``follow`` makes the rows that the tower reads, and may leave some out or add some. ``forward`` encodes them, n = 0
    too, and stays connected to the maps, so that no gradient of the other tower is None. ``width`` is the model's dim,
    which JointModel sets: an ``Identity`` head shares the other tower's head, any other comes on top of it.
    """

    width: int
    of: str
    trains_only: bool = False
    """True for an encoder without rows in evaluation."""
    origin: Origin | None = None

    def wants(self) -> dict[str, Any] | None:
        """Return class_path and init_args of the preprocess of its rows."""
        return {"class_path": "align.preprocess.Boxes", "init_args": {"of": self.of}}

    @abstractmethod
    def follow(self, given: Rows, lead: Lead, generator: torch.Generator | None) -> Rows:
        """Return the rows to read, of this tower's collated rows. generator: for draws in training."""

    @abstractmethod
    def forward(self, values: Any) -> Features:
        """Return features of the values of ``follow``'s rows."""


def as_maps(tokens: Tensor, grid: tuple[int, int] | None, start: int, of: str) -> Tensor:
    """Return maps (m, D, H, W) of tokens (m, L, D). Raises ValueError for tokens that are no grid."""
    if grid is None or tokens.shape[1] != start + grid[0] * grid[1]:
        found = "no grid" if grid is None else f"{start} + {grid[0]} x {grid[1]} tokens, its head {tokens.shape[1]}"
        raise ValueError(f"the encoder of {of!r} gives {found}: regions are pooled from a grid of tokens")
    return tokens[:, start:].mT.unflatten(2, grid)
