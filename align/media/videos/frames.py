"""Frames of a video stream in the order in which they are shown: decoded forward, with seeks where they save frames."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor
from typing import Any, NamedTuple

from align.media.containers.kinds import AVI, MATROSKA
from align.media.containers.opening import MAX_PIXELS, Opened
from align.values import BadSample

FAR = 30_000  # frames that are decoded to reach one time: 16 minutes without a frame to seek to
SAVED = 0.5  # seconds of frames that a seek must save
BLIND = 5.0  # seconds ahead from which a seek is tried where the index does not say whether it pays
BACK = (0.0, 2.0, 16.0)  # seconds before a time that are tried in turn, before the file is read from its start


class Shown(NamedTuple):
    """Frame with its time in ticks of its stream."""

    frame: Any
    time: int


class Frames:
    """Cursor over a stream's frames. ``at`` moves it to the frame that is shown at a time.

    A seek arrives at a key frame that is shown at or before the time, so frames that lean on a part before the key
    frame are never returned, and every frame equals that of a plain decode from the start.

    Attributes: tick (its seconds), first (the first shown frame), last (the last one, known when it was reached).
    """

    def __init__(self, opened: Opened, stream: Any):
        self.opened, self.index = opened, stream.index
        self._begin()
        first = self._next()
        if first is None:
            raise opened.bad("no-frames", "no frame of it can be decoded")
        self.first, self.last = first, None
        self.held, self.ahead = first, self._next()

    def at(self, seconds: float) -> Shown:
        """Return the last frame with a time up to ``seconds`` after the first one, rounded to ticks, or the first."""
        target = max(self.first.time + floor(seconds / self.tick + 0.5), self.first.time)
        if target < self.held.time or (self.ahead is not None and self._should_seek(target)):
            self._seek(target)
        count = 0
        while self.ahead is not None and self.ahead.time <= target:
            self.held, self.ahead = self.ahead, self._next()
            count += 1
            if count > FAR:
                said = f"more than {FAR} frames lie before {seconds:.2f} s with no key frame between"
                raise self.opened.bad("too-long", said)
        if self.ahead is None:
            self.last = self.held
        return self.held

    def _should_seek(self, target: int) -> bool:
        """Return True where a key frame before ``target`` lies far enough ahead."""
        assert self.ahead is not None
        entries, here = self.stream.index_entries, self.ahead.time
        saved = SAVED / self.tick
        if target - here <= saved:
            return False
        number = entries.search_timestamp(target) if len(entries) > 1 else -1
        if number >= 0 and entries[number].timestamp - here > saved:
            return True
        is_whole = len(entries) > 1 and entries[len(entries) - 1].timestamp >= target
        return not is_whole and target - here > BLIND / self.tick

    def _seek(self, target: int) -> None:
        """Move to a key frame that is shown at or before ``target``, or to the start."""
        from av.error import FFmpegError

        for seconds in BACK:
            place = target - round(seconds / self.tick)
            if place <= self.first.time:
                break
            try:
                self.opened.container.seek(place, stream=self.stream)
                self._start_packets()
                found = self._next()
            except (FFmpegError, BadSample):  # a broken index: the start is still there
                continue
            while found is not None and not found.frame.key_frame and found.time <= target:
                found = self._next()
            if found is not None and found.frame.key_frame and found.time <= target:
                self.held, self.ahead = found, self._next()
                return
        self.opened.reopen()
        self._begin()
        found = self._next()
        assert found is not None
        self.held, self.ahead = found, self._next()

    def _begin(self) -> None:
        """Begin at the start of a freshly opened container."""
        from av.stream import Discard

        for stream in self.opened.container.streams:
            if stream.index != self.index:
                stream.discard = Discard.all
        self.stream: Any = self.opened.container.streams[self.index]
        self.tick = float(self.stream.time_base or 0)
        context = self.stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        context.options = {"max_pixels": str(MAX_PIXELS)}  # those of the container are for its probing alone
        self._start_packets(is_start=True)

    def _start_packets(self, *, is_start: bool = False) -> None:
        self._time: int | None = None
        self._frames = self._decode(is_start)

    def _next(self) -> Shown | None:
        return next(self._frames, None)

    def _decode(self, is_start: bool) -> Iterator[Shown]:
        """Yield the frames from the container's position on. Raises BadSample: video/corrupt."""
        from av.error import FFmpegError

        stream, by_order = self.stream, self.opened.kind == AVI
        for packet in self.opened.container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                place = "" if packet.pts is None else f" at {packet.pts * self.tick:.2f} s"
                raise self.opened.undecodable(error, f"a packet{place}") from None
            for frame in frames:
                time = frame.dts if by_order else frame.pts  # an AVI states the order of decoding alone
                if time is None and frame.dts is None and self.opened.kind == MATROSKA:
                    continue  # it lies before the file's zero
                if self._time is None and time is None and not is_start:
                    raise self.opened.bad("corrupt", "a frame behind a seek has no time")
                if time is None or (by_order and self._time is not None and time <= self._time):
                    time = 0 if self._time is None else self._time + max(1, frame.duration or 1)
                self._time = time
                yield Shown(frame, time)
