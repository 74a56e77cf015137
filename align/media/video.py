"""Videos: files of moving pictures in MP4, QuickTime, WebM, Matroska and AVI, read at stated times by PyAV."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from align.media.containers.kinds import HEAD, kind_of
from align.media.medium import Cells, Examined, Face, Measures, Medium, Oddity, Severity, Stored
from align.media.pictures.fingerprint import picture_print
from align.media.recode import Recode
from align.media.sketch import picture_cells
from align.media.videos.face import moving_webp
from align.media.videos.reading import open_video
from align.media.videos.survey import even_times, mosaic, survey
from align.values import BadSample

SHOWN = {"mp4": "video/mp4", "m4v": "video/mp4", "webm": "video/webm", "mov": "video/quicktime"}
"""Types of videos that browsers play. They play the sound of such a file too."""
READ = 8  # frames of ``read``
READ_SIDE = 256  # pixels of their short side
CONVERTED = """
    3g2 3gp asf divx f4v flv m2ts mpeg mpg mts ogv rm rmvb ts vob wmv
"""
CONVERTED_SUFFIXES = frozenset(CONVERTED.split())
"""Suffixes of videos that are converted before they are stored: ffmpeg reads them all."""


@final
class Video(Medium):
    """Videos in the containers of the web and of cameras."""

    name = "video"
    element = "picture"
    modality = "video"
    suffixes = ("mp4", "webm", "mkv", "mov", "avi", "m4v")
    folders = ("video", "videos", "clips", "movies", "mp4", "webm")
    columns: ClassVar[Mapping[str, str]] = {"seconds": "seconds", "width": "width", "height": "height", "fps": "fps"}
    odd: ClassVar[Mapping[str, Oddity]] = {
        "fps": Oddity("video/odd-rate", "{} frames a second, most have {}"),
        "sound": Oddity("video/sound", "{}, most have {}"),
    }
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "video/empty": ("error", "no bytes"),
        "video/format": ("error", "no container or codec that is read; `ffmpeg -i FILE out.mp4` makes one that is"),
        "video/no-package": ("error", "PyAV is not installed, which reads videos (extra video)"),
        "video/no-frames": ("error", "no moving pictures: sound alone, a cover picture, or no stream"),
        "video/no-sound": ("error", "no sound, where the sound was asked for"),
        "video/truncated": (
            "error",
            "a part is gone: its index, its end, or frames that its header states",
        ),
        "video/unreadable": ("error", "FFmpeg does not open it"),
        "video/corrupt": ("error", "a frame that was asked for cannot be decoded"),
        "video/too-long": ("error", "more than a day, or 30,000 frames without a key frame"),
        "video/too-large": (
            "error",
            "frames of more than 67 million pixels (8192 × 8192), more memory than there is, or an index that states "
            "more samples than the file has bytes",
        ),
        "video/rate": ("error", "the rate of its sound changes"),
        "video/suffix": ("warning", "another container than its name says"),
        "video/length": ("warning", "its header states another length than its frames have"),
        "video/still": ("warning", "its frames are all alike"),
        "video/black": ("warning", "its frames are all black"),
        "video/tiny": ("warning", "fewer than 32 pixels on the short side"),
        "video/odd-rate": ("note", "another number of frames a second than most"),
        "video/sound": ("note", "sound, where most have none, or none, where most have sound"),
        "video/pixel-shape": ("note", "its pixels are not square; they are read as they are stored"),
        "video/open-ended": ("note", "a live recording: no header states its length, so a cut would not be seen"),
    }

    def read(self, source: bytes | Path) -> np.ndarray:
        """Return (8, H, W, 3) uint8, frames spread evenly over the video with a short side of at most 256 pixels.

        ``align.media.videos.reading.open_video`` reads frames at any times. Raises BadSample as that does.
        """
        with open_video(source) as video:
            return video.at(even_times(video.seconds, READ), READ_SIDE)

    def describe(self, data: bytes) -> dict[str, Any]:
        with open_video(data) as video:
            return {
                "seconds": round(video.seconds, 3),
                "fps": round(video.fps, 3),
                "width": video.width,
                "height": video.height,
                "codec": video.codec,
                "sound": "sound" if video.has_sound else "no sound",
            }

    def measure(self, about: Mapping[str, Any]) -> Measures:
        kinds = {"pixels": f"{about['width']}×{about['height']}", "codec": about["codec"], "sound": about["sound"]}
        return Measures({"seconds": about["seconds"]}, {**kinds, "frames/s": f"{about['fps']:g}"})

    def say(self, about: Mapping[str, Any], size: int) -> str:
        frames = f"{about['width']}×{about['height']} {about['codec']} at {about['fps']:g} frames/s"
        return f"{about['seconds']:g} s, {frames}, {about['sound']}, {size} bytes"

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        """Decode frames spread over a video, and read the times of all. Content: (k, H, W, 3) uint8, or None."""
        with open_video(data) as video:
            found = survey(video, suffix)
            properties = {"sound": "sound" if video.has_sound else "no sound"}
            if video.fps:
                properties["fps"] = f"{video.fps:.3g}"
        return Examined(found.notes, properties, content=found.frames)

    def fingerprint(self, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``picture_print`` of four frames side by side."""
        return picture_print(mosaic(content))

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Return a video as it is. Raises BadSample for no bytes and for another format, whatever its name says."""
        if modality == self.modality:
            if not data:
                raise BadSample("video/empty", "no bytes")
            if kind_of(data[:HEAD]) is None:
                raise BadSample("video/format", f"it starts with {data[:12]!r}; MP4, WebM, Matroska and AVI are read")
        return Stored(data, suffix)

    def advise(self, path: Path) -> str:
        if path.suffix.lower().removeprefix(".") not in CONVERTED_SUFFIXES:
            return ""
        return f"convert it: `ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.mp4')))}`"

    def face(self, data: bytes, suffix: str) -> Face:
        """Return frames spread over the video as a moving WebP of at most 48 kB."""
        with open_video(data) as video:
            return Face("picture", moving_webp(video), {"type": "image/webp"})

    def sketch(self, data: bytes, *, colours: bool) -> Cells | None:
        if not colours:
            return None
        with open_video(data) as video:
            return picture_cells(video.at([video.seconds / 2], READ_SIDE)[0])


VIDEO = Video()
