"""Videos: frames sampled at stated times become the rows of an image tower."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, ClassVar

import torch
from torch import Tensor

from align.media.picture import MAX_PIXELS
from align.media.video import VIDEO
from align.preprocess.base import Preprocess, check_at_least
from align.preprocess.image import Image
from align.preprocess.image_presets import Alpha, Backend, Interpolation, Resize
from align.preprocess.video_source import open_frames
from align.preprocess.video_times import choose_times


class Video(Preprocess):
    """Frames of a video. Rows are (k, 3, H, W) uint8, 1 <= k <= frames, and ``device`` normalises them.

    A video is cut into ``frames`` equal parts. Evaluation reads the frame that is shown in the middle of each,
    training one at a random time of each. A video of fewer frames gives some of them several times. With ``fps`` the
    parts are 1 / fps seconds long, so a short video has fewer of them, and a mask says so. A video too long for that
    is cut into ``frames`` equal parts again. CLIP4Clip reads 12 at 1 a second, LanguageBind and the Perception Encoder
    read 8 without ``fps``.

    Each frame is the row that ``Image`` makes of it, to the bit. In training all frames of a video have one crop, and
    all of them are mirrored or none. Only the frames of a row are read. Where those take more than 256 MiB at their
    full size, they are scaled down while they are decoded, so ten hours of 8K are read in bounded memory.

    A picture is a video of one frame: a PIL image, an array, bytes or a path, and the first frame of an animation.

    Args:
        frames: the most in a row.
        fps: frames a second while ``frames`` are enough. None reads ``frames`` of every video.
        size, mean, std, crop_scale, crop_ratio, flip, resize, max_pixels, preset, interpolation, backend, crop, fill,
        alpha: of the pictures, as ``Image`` has them.

    Raises ValueError for arguments that do not fit each other.
    """

    suffixes: ClassVar[tuple[str, ...]] = VIDEO.suffixes
    medium = VIDEO
    videos: ClassVar[bool] = True
    """True: its values are frames with a mask, which an encoder of pictures does not take."""

    def __init__(
        self,
        frames: int = 8,
        fps: float | None = None,
        size: int | tuple[int, int] = 224,
        mean: str | tuple[float, ...] | None = None,
        std: str | tuple[float, ...] | None = None,
        crop_scale: tuple[float, float] = (0.9, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = False,
        resize: Resize | None = None,
        max_pixels: int = MAX_PIXELS,
        preset: str | None = None,
        interpolation: Interpolation | None = None,
        backend: Backend | None = None,
        crop: float | None = None,
        fill: float | tuple[float, ...] | None = None,
        alpha: Alpha | None = None,
    ):
        check_at_least("frames", frames, 1)
        if fps is not None and not 0 < fps < float("inf"):
            raise ValueError(f"fps={fps!r} is a number of frames a second: above 0, or None")
        scaled = {"resize": resize, "interpolation": interpolation, "backend": backend, "crop": crop}
        augment = {"crop_scale": crop_scale, "crop_ratio": crop_ratio, "flip": flip}
        self.picture = image = Image(
            size, mean, std, max_pixels=max_pixels, preset=preset, fill=fill, alpha=alpha, **scaled, **augment
        )
        self.frames, self.fps = frames, fps
        self.size, self.mean, self.std, self.channels = image.size, image.mean, image.std, image.channels
        self.crop_scale, self.crop_ratio, self.flip = image.crop_scale, image.crop_ratio, image.flip
        self.resize, self.max_pixels, self.preset = image.resize, image.max_pixels, image.preset
        self.interpolation, self.backend, self.crop = image.interpolation, image.backend, image.crop
        self.fill, self.alpha = image.fill, image.alpha
        self._sides = (size, size) if isinstance(size, int) else (size[0], size[1])
        self._short = ceil(max(self._sides) / self.crop)

    def decode(self, source: Any) -> Tensor:
        """Return (k, 3, H, W) uint8, the frames at evaluation's times in the size of the video, which is read upright.

        source: bytes, a path, frames as an array (T, H, W, 3) or a tensor (T, 3, H, W) of uint8, or a picture as
        ``Image`` reads it. Raises BadSample: those of ``align.media.videos.reading.open_video``, video/shape and
        video/dtype of arrays, and those of ``Image`` for a picture.
        """
        return self._read(source, None)

    def row(self, source: Any, generator: torch.Generator | None = None) -> Tensor:
        """Return ``eval(decode(source))``, with a generator ``train`` of the frames at the times that it draws.

        ``train(decode(source), generator)`` has evaluation's times, and draws no others.
        """
        if type(self).decode is not Video.decode:
            return super().row(source, generator)
        x = self._read(source, generator)
        return self.eval(x) if generator is None else self.train(x, generator)

    def _read(self, source: Any, generator: torch.Generator | None) -> Tensor:
        with open_frames(source, self._short, self.picture.decode) as opened:
            if not opened.seconds:  # a picture, or one frame
                return opened.read([0.0])
            return opened.read(choose_times(opened.seconds, self.frames, self.fps, generator))

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        state, rows = generator.get_state(), []
        for frame in x:
            generator.set_state(state)  # the same draws for each: one crop for all
            rows.append(self.picture.train(frame, generator))
        return torch.stack(rows)

    def eval(self, x: Tensor) -> Tensor:
        return torch.stack([self.picture.eval(frame) for frame in x])

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return {"values": (n, frames, 3, H, W) uint8, "mask": (n, frames) bool}, zeros where the mask is false.

        Raises ValueError for a row of another shape.
        """
        shape = (self.frames, 3, *self._sides)
        values = torch.zeros((len(rows), *shape), dtype=torch.uint8)
        mask = torch.zeros((len(rows), self.frames), dtype=torch.bool)
        for i, row in enumerate(rows):
            k = len(row)
            if row.shape[1:] != shape[1:] or not 1 <= k <= self.frames:
                raise ValueError(
                    f"row {i} has shape {tuple(row.shape)}, the preset's is {shape} or shorter; pass rows of train or "
                    "eval"
                )
            values[i, :k], mask[i, :k] = row, True
        return {"values": values, "mask": mask}

    def device(self, values: Any, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return {"values": (n, frames, 3, H, W) float32, normalised as ``Image.device`` does, "mask": (n, frames)}."""
        x = values["values"]
        pictures = self.picture.device(x.flatten(0, 1))  # (n · frames, 3, H, W)
        return {"values": pictures.view(x.shape), "mask": values["mask"]}
