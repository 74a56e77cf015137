"""Uni3D: groups of points into a ViT."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class Uni3D(Encoder):
    """Uni3D: groups of points into a ViT."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
