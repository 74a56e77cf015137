"""VideoFrames: the frames of a video through any image tower."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class VideoFrames(Encoder):
    """VideoFrames: the frames of a video through any image tower."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
