"""The frames of a source at stated times: a video's file, a picture, or an array of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from align.media.pictures.formats import HEAD, kind_of
from align.media.reading import bad, open_source

MEMORY = 1 << 28
"""Bytes of the frames of one row as they are decoded. Beyond it they are scaled down while they are decoded."""


class Frames(NamedTuple):
    """An opened source. seconds: its length, 0 for a picture. read: times -> (k, 3, H, W) uint8."""

    seconds: float
    read: Callable[[Sequence[float]], Tensor]


@contextmanager
def open_frames(source: Any, short: int, picture: Callable[[Any], Tensor]) -> Iterator[Frames]:
    """Open bytes, a path, a PIL image, an array of frames (T, H, W, 3) or a tensor of them (T, 3, H, W), uint8.

    Frames of an array are a second apart. A picture is shown at any time. short: pixels on the short side below which
    no frame is scaled down. picture: reads a picture's pixels.

    Raises BadSample: video/shape, video/dtype and video/empty of arrays, those of ``open_video`` and of ``picture``.
    Raises FileNotFoundError for a path that is not there, and TypeError for another kind of source.
    """
    if isinstance(source, np.ndarray | Tensor) and source.ndim == 4:
        yield _from_array(source)
    elif not isinstance(source, bytes | bytearray | memoryview | str | Path) or _is_picture(source):
        pixels = picture(source)
        yield Frames(0.0, lambda times: pixels.expand(len(times), *pixels.shape))
    else:
        from align.media.videos.reading import open_video

        with open_video(Path(source) if isinstance(source, str | Path) else bytes(source)) as video:

            def read(times: Sequence[float]) -> Tensor:
                side = _side(video.height, video.width, len(times), short)
                return torch.from_numpy(video.at(times, side=side)).permute(0, 3, 1, 2)

            yield Frames(video.seconds, read)


def _is_picture(source: Any) -> bool:
    """Return True for the bytes or the path of a picture's file."""
    with open_source(source) as file:
        return kind_of(file.read(HEAD)) is not None


def _side(height: int, width: int, count: int, short: int) -> int | None:
    """Return the short side of frames that fit into MEMORY, None where they fit as they are."""
    size = 3 * count * height * width
    if size <= MEMORY:
        return None
    scaled = floor(min(height, width) * (MEMORY / size) ** 0.5)
    return max(short, scaled) if max(short, scaled) < min(height, width) else None


def _from_array(source: Any) -> Frames:
    array = source.detach().cpu().permute(0, 2, 3, 1).numpy() if isinstance(source, Tensor) else source
    x = torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)  # channels last in memory, as pictures are
    if x.dtype != torch.uint8:
        raise bad("video/dtype", None, f"frames are uint8, not {x.dtype}")
    if x.shape[1] != 3 or 0 in x.shape[2:]:
        raise bad("video/shape", None, "an array of frames is (T, H, W, 3), a tensor (T, 3, H, W)")
    if len(x) == 0:
        raise bad("video/empty", None, "no frames")
    return Frames(float(len(x)), lambda times: x[[min(int(t), len(x) - 1) for t in times]])
