"""Oddities of a video that can be read: a length that its header misstates, still or black frames, odd shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from align.media.containers.kinds import AVI, MATROSKA, MP4, Kind
from align.media.medium import Note
from align.media.videos.reading import VideoFile

LOOKED_AT = 16  # frames that a check decodes
COMPARED = 4  # frames that a fingerprint is made of
SIDE = 96  # pixels of the frames that are looked at
TINY = 32  # pixels
BLACK = 20.0  # the brightest mean level of a row of a black frame
STILL = 1.0  # level by which frames of a still differ on average
LIES = (0.5, 0.05)  # seconds, and share of its length, by which a header may miss the frames' end
KINDS: dict[str, Kind] = {"mp4": MP4, "m4v": MP4, "mov": MP4, "webm": MATROSKA, "mkv": MATROSKA, "avi": AVI}


class Survey(NamedTuple):
    """Findings of a check. frames: (k, H, W, 3) uint8 that were looked at, or None for a video of one picture."""

    notes: Sequence[Note]
    frames: np.ndarray | None


def even_times(seconds: float, count: int) -> list[float]:
    """Return the middles of ``count`` equal parts of a video."""
    return [seconds * (2 * i + 1) / (2 * count) for i in range(count)]


def survey(video: VideoFile, suffix: str) -> Survey:
    """Decode frames spread over a video, and read the times of all. Raises BadSample as ``VideoFile.at``."""
    notes: list[Note] = []
    kind = video.opened.kind
    if KINDS.get(suffix, kind) != kind:
        notes.append(Note("video/suffix", f"{kind.name} that is named .{suffix}"))
    if video.is_open_ended:
        notes.append(Note("video/open-ended", f"{video.seconds:.2f} s were found"))
    if min(video.width, video.height) < TINY:
        notes.append(Note("video/tiny", f"{video.width} × {video.height} pixels"))
    aspect = video.frames.stream.sample_aspect_ratio
    if aspect and aspect != 1:
        notes.append(Note("video/pixel-shape", f"pixels {aspect.numerator}:{aspect.denominator}"))
    measured = video.measure_seconds()
    if abs(measured - video.seconds) > max(LIES[0], LIES[1] * max(measured, video.seconds)):
        notes.append(
            Note("video/length", f"its header states {video.seconds:.2f} s, its frames end at {measured:.2f} s")
        )
    frames = video.at(even_times(min(measured, video.seconds), LOOKED_AT), SIDE)
    levels = frames.astype(np.float32)
    if levels.mean(axis=(2, 3)).max() < BLACK:
        notes.append(Note("video/black", f"{LOOKED_AT} frames of {video.seconds:.2f} s"))
        return Survey(notes, None)
    if len(frames) > 1 and np.abs(levels[1:] - levels[:-1]).mean(axis=(1, 2, 3)).max() < STILL:
        notes.append(Note("video/still", f"{LOOKED_AT} frames of {video.seconds:.2f} s"))
        return Survey(notes, None)
    return Survey(notes, frames)


def mosaic(frames: np.ndarray) -> np.ndarray:
    """Return four of the frames (k, H, W, 3), spread evenly, side by side in two rows: (64, 64, 3) uint8."""
    from PIL import Image

    chosen = [frames[int(len(frames) * (2 * i + 1) / (2 * COMPARED))] for i in range(COMPARED)]
    small = [np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BOX)) for frame in chosen]
    return np.concatenate([np.concatenate(small[:2], axis=1), np.concatenate(small[2:], axis=1)])
