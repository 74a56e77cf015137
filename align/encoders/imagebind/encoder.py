"""ImageBind: one trunk of ImageBind's."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features


@final
class ImageBind(Encoder):
    """ImageBind: one trunk of ImageBind's."""

    def encode(self, values: Any) -> Features:
        raise NotImplementedError
