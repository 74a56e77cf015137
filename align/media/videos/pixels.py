"""Frames to upright RGB arrays, scaled by FFmpeg where a smaller side is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

TURNS: dict[
    tuple[int, ...], tuple[int, bool]
] = {  # signs of the display matrix (a, b, c, d) -> turns to the left of 90 degrees, and whether it is mirrored
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (3, False),
    (-1, 0, 0, -1): (2, False),
    (0, -1, 1, 0): (1, False),
    (-1, 0, 0, 1): (0, True),
    (1, 0, 0, -1): (2, True),
    (0, 1, 1, 0): (1, True),
    (0, -1, -1, 0): (3, True),
}


class Upright:
    """Conversion of a video's frames to (H, W, 3) uint8 of one size, that of its first frame.

    width, height: of the frames as they are shown. A turn by other angles than quarters is not applied, nor is the
    shape of a pixel that is not square.
    """

    def __init__(self, first: Any):
        from av.video.reformatter import Interpolation, VideoReformatter

        self.turns, self.mirrored = TURNS.get(_display_matrix(first), (0, False))
        self.stored = (first.width, first.height)
        self.width, self.height = self.stored[::-1] if self.turns % 2 else self.stored
        self.reformatter = VideoReformatter()
        self.method = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT

    def size(self, side: int | None) -> tuple[int, int]:
        """Return (height, width) of frames whose short side has at most ``side`` pixels."""
        short = min(self.width, self.height)
        if side is None or side >= short:
            return self.height, self.width
        return max(1, round(self.height * side / short)), max(1, round(self.width * side / short))

    def convert(self, frame: Any, side: int | None = None) -> np.ndarray:
        """Return a frame as an array (height, width, 3) uint8 of ``size(side)``."""
        height, width = self.size(side)
        if self.turns % 2:
            height, width = width, height
        small = self.reformatter.reformat(frame, width, height, "rgb24", interpolation=self.method, threads=1)
        pixels = small.to_ndarray()  # (H, W, 3) as stored
        pixels = pixels[:, ::-1] if self.mirrored else pixels
        return np.ascontiguousarray(np.rot90(pixels, self.turns))


def _display_matrix(frame: Any) -> tuple[int, ...]:
    """Return the signs of (a, b, c, d) of a frame's display matrix (ISO/IEC 14496-12, section 6.2.2)."""
    from av.sidedata.sidedata import Type

    found = [bytes(data) for data in frame.side_data if data.type == Type.DISPLAYMATRIX]
    if not found or len(found[0]) < 36:
        return (1, 0, 0, 1)
    numbers = np.frombuffer(found[0], np.int32)[[0, 1, 3, 4]].astype(np.int64)
    large = np.abs(numbers) > np.abs(numbers).max() / 2
    return tuple((np.sign(numbers) * large).tolist())
