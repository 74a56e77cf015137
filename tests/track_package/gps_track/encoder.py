"""An encoder of tracks: a small network over all places at once."""

from __future__ import annotations

from torch import Tensor, nn

from align.encoders.base import Encoder
from align.values import Features


class TrackEncoder(Encoder):
    """(n, points, 2) -> (n, width)."""

    def __init__(self, points: int = 32, width: int = 32):
        super().__init__()
        self.points, self.width = points, width
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(2 * points, 64), nn.GELU(), nn.Linear(64, width))

    def encode(self, values: Tensor) -> Features:
        return Features(self.layers(values), None, None)
