"""Tracks to rows: a fixed number of places along the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from align.preprocess import Preprocess
from align.preprocess.base import stack
from gps_track.medium import Track

TRACK = Track()


class TrackRows(Preprocess):
    """Rows are (points, 2) float32: kilometres east and north, evenly spread over the track's points."""

    suffixes = Track.suffixes
    medium = TRACK

    def __init__(self, points: int = 32):
        self.points = points

    def decode(self, source: Any) -> Tensor:
        """(T, 2) kilometres, from bytes or a path."""
        return torch.from_numpy(TRACK.read(source if isinstance(source, bytes) else Path(source))[:, 1:]).float() / 1000

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.eval(x)

    def eval(self, x: Tensor) -> Tensor:
        return x[torch.linspace(0, len(x) - 1, self.points).round().long()]

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, (self.points, 2), torch.float32)
