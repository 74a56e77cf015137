"""Clips of a video at several places in time and space, as ImageBind reads videos."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from align.media.picture import MAX_PIXELS
from align.media.pictures.read import read_picture
from align.media.video import VIDEO
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack
from align.preprocess.image_presets import MEANS, STDS, n_numbers
from align.preprocess.image_resize import LONGEST, centre
from align.preprocess.video_source import open_frames

TOP = 65535  # white of a row: in 16 bits rounding moves a normalised value by 3e-5 at most


class VideoClips(Preprocess):
    """Clips of a video. Rows are (clips · crops, 3, frames, size, size) uint16, and ``device`` normalises them.

    A clip's crops stand side by side: left, middle and right of a wide video, top, middle and bottom of a tall one.
    In training the clips begin at random times. Only the frames of a row are read.

    Traps of ImageBind (Girdhar et al. 2023, its ``load_and_transform_video_data``), the defaults here: clip i begins at
    (duration - 2) · i / 4. pytorchvideo 0.1.5, the release, divides by 5. A clip's two frames are its first and its
    last, counted at the mean rate of the video, also where the rate changes. Frames are scaled by plain bilinear
    interpolation, which skips pixels of large ones, and a side is rounded down. The mean over the 15 views is the
    model's. A video below 2 s is five times the same clip. A picture is a video that stands still.

    Args:
        clips: in time, spread evenly from the start to the end.
        seconds: length of a clip.
        frames: of a clip, spread evenly from its first to its last.
        crops: of a frame, 1 (the middle) or 3.
        size: pixels a side.
        mean, std: as ``Image`` has them.
        flip: mirror half of the videos in training.
        preset: the one that the defaults are.
        max_pixels: a larger picture is refused by its header.
    """

    suffixes: ClassVar[tuple[str, ...]] = VIDEO.suffixes
    medium = VIDEO

    def __init__(
        self,
        clips: int = 5,
        seconds: float = 2.0,
        frames: int = 2,
        crops: Literal[1, 3] = 3,
        size: int = 224,
        mean: str | tuple[float, ...] = "clip",
        std: str | tuple[float, ...] | None = None,
        flip: bool = False,
        preset: Literal["imagebind-video"] = "imagebind-video",
        max_pixels: int = MAX_PIXELS,
    ):
        for name, value in (("clips", clips), ("frames", frames), ("size", size)):
            check_at_least(name, value, 1)
        check_at_least("seconds", seconds, 1e-3)
        check_choice("preset", preset, ("imagebind-video",))
        if crops not in (1, 3):
            raise ValueError(f"crops={crops!r} is not known; it may be 1 or 3")
        self.clips, self.seconds, self.frames, self.size = clips, seconds, frames, size
        self.crops: Literal[1, 3] = crops
        self.mean, self.std, self.flip, self.max_pixels = mean, std, flip, max_pixels
        self.preset: Literal["imagebind-video"] = preset
        self.channels = 3
        self._mean, self._std = n_numbers("mean", mean, MEANS, 3), n_numbers("std", std or mean, STDS, 3)
        self._shape = (clips * crops, 3, frames, size, size)

    def decode(self, source: Any) -> Tensor:
        """Return (clips · frames, 3, H, W) uint8, the frames at evaluation's times, upright, as ``Video.decode`` does.

        source: as ``Video`` has it. Raises BadSample as ``Video.decode``.
        """
        return self._read(source, None)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return ``eval(decode(source))``, with a generator ``train`` of the frames of clips at the times it draws."""
        x = self._read(source, generator)
        return self.eval(x) if generator is None else self.train(x, generator)

    def _read(self, source: Any, generator: torch.Generator | None) -> Tensor:
        with open_frames(source, self.size, lambda x: read_picture(x, self.max_pixels)) as opened:
            fps = opened.fps or 1.0
            count = max(1, round(opened.seconds * fps))
            places = None if generator is None else torch.rand(self.clips, generator=generator).tolist()
            chosen = choose_frames(count, fps, self.seconds, self.clips, self.frames, places)
            return opened.read([(frame + 0.5) / fps for frame in chosen])

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        row = self.eval(x)
        return row.flip(-1) if self.flip and torch.rand((), generator=generator) < 0.5 else row

    def eval(self, x: Tensor) -> Tensor:
        H, W = x.shape[-2:]
        if max(H, W) > (most := LONGEST["torch"] * min(H, W)):
            x = centre(x.flatten(0, 1), min(H, most), min(W, most)).unflatten(0, x.shape[:2])
            H, W = x.shape[-2:]
        tall, wide = (floor(H / W * self.size), self.size) if W < H else (self.size, floor(W / H * self.size))
        scaled = F.interpolate(x.float() / 255, (tall, wide), mode="bilinear", align_corners=False)
        clips = scaled.view(self.clips, self.frames, *scaled.shape[1:]).transpose(1, 2)  # (clips, 3, frames, H, W)
        views = [self._crop(clips, place) for place in ((1,) if self.crops == 1 else (0, 1, 2))]
        return (torch.stack(views, 1).flatten(0, 1) * TOP).round_().to(torch.uint16)

    def _crop(self, x: Tensor, place: int) -> Tensor:
        """Return the first (0), middle (1) or last (2) square of (..., H, W) along the longer side."""
        (H, W), size = x.shape[-2:], self.size
        along = {0: 0, 1: ceil((max(H, W) - size) / 2), 2: max(H, W) - size}[place]
        top, left = (along, 0) if H > W else (0, along)
        return x[..., top : top + size, left : left + size]

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, self._shape, torch.uint16)

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, clips · crops, 3, frames, size, size) float32, (value / white - mean) / std."""
        mean = self.constant("mean", values.device, lambda: TOP * torch.tensor(self._mean).view(-1, 1, 1, 1))
        std = self.constant("std", values.device, lambda: TOP * torch.tensor(self._std).view(-1, 1, 1, 1))
        return values.to(torch.float32, copy=True).sub_(mean).div_(std)


def choose_frames(
    count: int, fps: float, seconds: float, clips: int, frames: int, places: Sequence[float] | None = None
) -> list[int]:
    """Return the frames of each clip, of ``count`` at ``fps``, as pytorchvideo's samplers choose them.

    places: of the clips' starts, each in [0, 1), in place of even ones.

    >>> choose_frames(10, 1.0, 2.0, 5, 2)
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    last = Fraction(max(count / fps - seconds, 0))
    even = [Fraction(i, max(clips - 1, 1)) for i in range(clips)]
    chosen: list[int] = []
    for place in even if places is None else map(Fraction, places):
        start = last * place
        first, end = ceil(fps * start), min(ceil(fps * (start + Fraction(seconds))), count)
        first = min(first, count - 1)
        inside = torch.linspace(0, max(end - first - 1, 0), frames).long().tolist()
        chosen += [first + i for i in inside]
    return chosen
