"""HTSAT: the audio transformer of LAION's CLAP."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class HTSAT(Encoder):
    """HTSAT: the audio transformer of LAION's CLAP."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
