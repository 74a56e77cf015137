"""PointBERT: the point towers of OpenShape and ULIP-2."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class PointBERT(Encoder):
    """PointBERT: the point towers of OpenShape and ULIP-2."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
