"""Videos: frames sampled at stated times become the rows of an image tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.media.video import VIDEO
from align.preprocess.base import Preprocess
from align.values import Values


class Video(Preprocess):
    """Frames of a video."""

    suffixes: ClassVar[tuple[str, ...]] = VIDEO.suffixes
    medium = VIDEO

    def decode(self, source: Any) -> Tensor:
        raise NotImplementedError

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def eval(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def collate(self, rows: Sequence[Tensor]) -> Values:
        raise NotImplementedError
