"""PointNet2: PointNet++ in plain torch."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class PointNet2(Encoder):
    """PointNet2: PointNet++ in plain torch."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
