"""Videos, opened: facts, the frames that are shown at stated times, and the sound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Any

import numpy as np

from align.media.containers.hearing import hear, sound_stream
from align.media.containers.kinds import AVI
from align.media.containers.opening import MAX_PIXELS, Opened, begins_late, open_container
from align.media.videos.frames import Frames
from align.media.videos.pixels import Upright

MAX_SECONDS = 86_400.0  # of a video: a day. Frames at stated times cost the same in long ones
SHORT_BY = (2.0, 0.1)  # seconds, and share of its stated length, by which a video may end early
SOUND_SECONDS = 600.0  # of the sound that is read


@contextmanager
def open_video(source: Any, max_seconds: float = MAX_SECONDS) -> Iterator[VideoFile]:
    """Open a video's file, or its bytes, and decode its first frame.

    Raises BadSample, also for errors while it is open: video/empty, format, truncated, unreadable, no-frames, corrupt,
    too-long, too-large, no-package.
    """
    with open_container(source, "video") as opened:
        yield VideoFile(opened, max_seconds)


class VideoFile:
    """Open video. Times are seconds after its first shown frame.

    Attributes:
        seconds: its stated length, at least one frame's. That of a live recording, which states none, is measured,
            and that of a Matroska file that begins late, which may count the time before.
        fps: mean frames a second, 0 where nothing states it.
        width, height: pixels of a frame as it is shown, upright.
        codec: FFmpeg's name of the stream's codec, such as "h264".
        has_sound: True where a stream of sound stands beside the frames.
    """

    def __init__(self, opened: Opened, max_seconds: float):
        self.opened = opened
        stream = find_stream(opened)
        self.stated_size = (stream.codec_context.width, stream.codec_context.height)
        if self.stated_size[0] * self.stated_size[1] > MAX_PIXELS:
            raise too_large(opened, *self.stated_size)
        self.codec = stream.codec_context.codec.canonical_name
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self.frames = Frames(opened, stream)
        self.upright = Upright(self.frames.first.frame)
        self.width, self.height = self.upright.width, self.upright.height
        self.has_sound = sound_stream(opened) is not None
        stated = self._stated_seconds()
        self.is_open_ended = stated is None and self._is_live()
        self.seconds = self.measure_seconds() if stated is None else stated
        if self.seconds > max_seconds:
            raise opened.bad("too-long", f"{self.seconds:.0f} s, at most {max_seconds:.0f} s are read")

    def at(self, times: Sequence[float], side: int | None = None) -> np.ndarray:
        """Return the frames that are shown at ``times``: (k, H, W, 3) uint8, RGB.

        Shown at a time is the last frame that begins at or before it, in ticks of the file's clock; before the first
        frame the first, after the end the last. Times may repeat, in any order. Frames between them are decoded where a
        seek does not save them. At most two decoded frames stand in memory, beside the codec's own and the result.

        Args:
            times: seconds after the first frame.
            side: pixels of the short side. Larger frames are scaled down to it (bicubic) one by one, never up.

        Raises ValueError for times that are not finite, and BadSample: video/corrupt, video/too-long (more than 30,000
        frames behind a key frame), video/truncated (the frames end long before the stated end).
        """
        if not all(map(isfinite, times)):
            raise ValueError(f"times={list(times)} are seconds, so finite numbers")
        if side is not None and side < 1:
            raise ValueError(f"side={side}: the short side has at least one pixel")
        out = np.empty((len(times), *self.upright.size(side), 3), np.uint8)
        before, place = None, -1
        for i in sorted(range(len(times)), key=lambda i: times[i]):
            shown = self.frames.at(times[i])
            if before is not None and shown.time == before:
                out[i] = out[place]
                continue
            self.upright.convert(shown.frame, out[i], side)
            before, place = shown.time, i
        if self.frames.last is not None and not self.is_open_ended and len(times):
            self._check_end(max(times))
        return out

    def frame_times(self) -> np.ndarray:
        """Return the seconds at which each frame begins, (n,) float64, ascending. Reads the file, decodes nothing."""
        return np.array([time for time, _ in self._packets()])

    def measure_seconds(self) -> float:
        """Return the length from the first frame to the end of the last. Reads the file, decodes nothing."""
        return max((time + length for time, length in self._packets()), default=0.0) or self.frame_seconds

    @property
    def frame_seconds(self) -> float:
        """Return the length of one frame, 0.04 s where nothing states it."""
        return 1 / self.fps if self.fps else 0.04

    def sound(self, max_seconds: float = SOUND_SECONDS) -> tuple[np.ndarray, int]:
        """Return the sound, (T,) float32, the mean of its channels, and its rate in Hz.

        Its first sample is heard with the first frame: sound before that is cut, and a late start is filled with zeros.
        Raises BadSample: video/no-sound, too-long (more than ``max_seconds``), corrupt.
        """
        with open_container(self.opened.source, "video") as opened:
            heard = hear(opened, max_seconds)
        late = round((heard.start - self.frames.first.time * self.frames.tick) * heard.rate)
        late = min(late, round(max_seconds * heard.rate))
        wave = heard.wave[-late:] if late < 0 else np.pad(heard.wave, (late, 0)) if late else heard.wave
        return wave, heard.rate

    def _stated_seconds(self) -> float | None:
        """Return the length that the stream or else the container states, or None."""
        stream, container = self.frames.stream, self.opened.container
        if self._is_live() or begins_late(self.opened):
            return None
        if stream.duration:
            return max(stream.duration * self.frames.tick, self.frame_seconds)
        if container.duration:
            late = (stream.start_time or 0) * self.frames.tick - (container.start_time or 0) / 1e6
            return max(container.duration / 1e6 - max(0.0, late), self.frame_seconds)
        return None

    def _is_live(self) -> bool:
        return self.opened.extent.stated is None

    def _packets(self) -> list[tuple[float, float]]:
        """Return (time, length) in seconds of each packet that is shown, by time."""
        frames, by_order = self.frames, self.opened.kind == AVI
        with open_container(self.opened.source, "video") as opened:
            found: list[tuple[int, int]] = []
            for packet in opened.container.demux(opened.container.streams[frames.index]):
                time = packet.dts if by_order or packet.pts is None else packet.pts
                if packet.size and not packet.is_discard and time is not None:
                    found.append((time, packet.duration or 0))
        found.sort()
        start = found[0][0] if by_order and found else frames.first.time
        return [((time - start) * frames.tick, length * frames.tick) for time, length in found]

    def _check_end(self, latest: float) -> None:
        """Raise BadSample video/truncated where the file holds much less than its header states."""
        last = self.frames.last
        assert last is not None
        end = (last.time - self.frames.first.time) * self.frames.tick
        short = min(latest, self.seconds) - end
        if short <= max(SHORT_BY[0], SHORT_BY[1] * self.seconds):
            return
        with open_container(self.opened.source, "video") as opened:
            end = max(end, measure_all(opened) - self.frames.first.time * self.frames.tick)
        if self.seconds - end > max(SHORT_BY[0], SHORT_BY[1] * self.seconds):
            raise self.opened.bad("truncated", f"its header states {self.seconds:.2f} s; {end:.2f} s are there")


def find_stream(opened: Opened) -> Any:
    """Return the stream of frames, never a cover picture. Raises BadSample: video/no-frames, video/format."""
    from av.stream import Disposition

    streams = opened.container.streams.video
    moving = [stream for stream in streams if not stream.disposition & Disposition.attached_pic]
    if not moving:
        others = sorted({stream.type for stream in opened.container.streams})
        beside = " but a cover picture" if streams else ""
        found = f"{opened.kind.name} with {', '.join(others)}" if others else f"{opened.kind.name} without streams"
        raise opened.bad("no-frames", f"{found}: no moving pictures{beside}")
    readable = [stream for stream in moving if stream.codec_context is not None]
    if not readable:
        raise opened.bad("format", "the codec of its frames is not read")
    usual = [stream for stream in readable if stream.disposition & Disposition.default]
    return (usual or readable)[0]


def measure_all(opened: Opened) -> float:
    """Return the end of the last packet of all streams, in seconds. Reads the file, decodes nothing."""
    end = 0.0
    for packet in opened.container.demux():
        if packet.size and packet.pts is not None and packet.time_base is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    return end


def too_large(opened: Opened, width: int, height: int) -> Any:
    """Return the reason video/too-large."""
    return opened.bad("too-large", f"frames of {width} x {height} pixels, at most {MAX_PIXELS:,} are read")
