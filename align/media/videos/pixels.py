"""Frames to upright RGB arrays, scaled by FFmpeg where a smaller side is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

TURNS: dict[tuple[int, ...], tuple[int, bool]] = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (3, False),
    (-1, 0, 0, -1): (2, False),
    (0, -1, 1, 0): (1, False),
    (-1, 0, 0, 1): (0, True),
    (1, 0, 0, -1): (2, True),
    (0, 1, 1, 0): (1, True),
    (0, -1, -1, 0): (3, True),
}
"""Signs of the display matrix (a, b, c, d) -> (turns of 90 degrees to the left, True where it is mirrored)."""


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
        self.fast = Interpolation.BICUBIC | Interpolation.BITEXACT
        self.smooth = self.fast | Interpolation.ACCURATE_RND

    def size(self, side: int | None) -> tuple[int, int]:
        """Return (height, width) of frames whose short side has at most ``side`` pixels."""
        short = min(self.width, self.height)
        if side is None or side >= short:
            return self.height, self.width
        return max(1, round(self.height * side / short)), max(1, round(self.width * side / short))

    def convert(self, frame: Any, into: np.ndarray, side: int | None = None) -> None:
        """Write a frame into an array (height, width, 3) uint8 of ``size(side)``.

        A frame that keeps its size is converted as FFmpeg does it by default, a scaled one by a bicubic filter that
        covers all pixels.
        """
        height, width = self.size(side)
        if self.turns % 2:
            height, width = width, height
        method = self.fast if (frame.width, frame.height) == (width, height) else self.smooth
        small = self.reformatter.reformat(frame, width, height, "rgb24", interpolation=method, threads=1)
        plane: Any = small.planes[0]
        pixels = np.ndarray((height, width, 3), np.uint8, plane, 0, (plane.line_size, 3, 1))
        pixels = pixels[:, ::-1] if self.mirrored else pixels
        into[:] = np.rot90(pixels, self.turns)


def _display_matrix(frame: Any) -> tuple[int, ...]:
    """Return the signs of (a, b, c, d) of a frame's display matrix (ISO/IEC 14496-12, section 6.2.2)."""
    from av.sidedata.sidedata import Type

    found = [bytes(data) for data in frame.side_data if data.type == Type.DISPLAYMATRIX]
    if not found or len(found[0]) < 36:
        return (1, 0, 0, 1)
    numbers = np.frombuffer(found[0], np.int32)[[0, 1, 3, 4]].astype(np.int64)
    large = np.abs(numbers) > np.abs(numbers).max() / 2
    return tuple((np.sign(numbers) * large).tolist())
