"""Sound of a container, decoded whole: a mean of its channels, as long as the container's edit list says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from align.media.containers.kinds import MP4
from align.media.containers.opening import Opened, begins_late

SCALES = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0}  # full scale of FFmpeg's integers
FILLING = 4096  # samples at most that fill an encoder's last frames


class Heard(NamedTuple):
    """Sound. wave: (T,) float32, or (T, channels). start: seconds of its first sample on the container's clock."""

    wave: np.ndarray
    rate: int
    channels: int
    start: float


def sound_stream(opened: Opened) -> Any | None:
    """Return the stream of sound that a player would play, or None."""
    from av.stream import Disposition

    found = [stream for stream in opened.container.streams.audio if stream.codec_context is not None]
    usual = [stream for stream in found if stream.disposition & Disposition.default]
    return (usual or found or [None])[0]


def stated_seconds(opened: Opened, stream: Any) -> float | None:
    """Return the length that a stream of sound or else its container states, or None."""
    if opened.extent.stated is None or begins_late(opened):
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return opened.container.duration / 1e6 if opened.container.duration else None


def hear(opened: Opened, max_seconds: float, head_seconds: float | None = None, all_channels: bool = False) -> Heard:
    """Decode the sound of a container that was just opened, or its first ``head_seconds``.

    all_channels: do not mix them.

    A seek is not exact in AAC (noise is drawn from a state) and Opus (filters remember), so all is decoded. Samples
    before the first that is heard (the encoder's delay) and behind the last are left out, as the container says.

    Raises BadSample: MODALITY/no-sound, too-long, corrupt, rate (where it changes).
    """
    from av.error import FFmpegError

    stream = require_sound(opened)
    seconds = stated_seconds(opened, stream)
    if seconds is not None and head_seconds is None and seconds > max_seconds:
        raise too_long(opened, f"{seconds:.1f} s", max_seconds)
    context = stream.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    parts: list[np.ndarray] = []
    count, rate, channels, start = 0, 0, 0, None
    for packet in opened.container.demux(stream):
        if head_seconds is not None and count > head_seconds * rate > 0:
            break
        try:
            frames = packet.decode()
        except FFmpegError as error:
            raise opened.undecodable(error, f"a packet of sound after {count} samples") from None
        for frame in frames:
            if start is None:
                start = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else 0.0
                rate, channels = frame.sample_rate, len(frame.layout.channels)
            if frame.sample_rate != rate:
                raise opened.bad("rate", f"its rate changes from {rate} to {frame.sample_rate} Hz")
            if all_channels and len(frame.layout.channels) != channels:
                raise opened.bad("corrupt", f"its channels change from {channels} to {len(frame.layout.channels)}")
            parts.append(_mix(frame, all_channels))
            count += len(parts[-1])
            if count * (max(channels / 8, 1) if all_channels else 1) > max_seconds * rate:
                raise too_long(opened, f"more than {max_seconds:g} s", max_seconds)
    wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    wave = wave[: stated_samples(opened, stream, len(wave))]
    return Heard(wave, rate or stream.codec_context.sample_rate, channels, start or 0.0)


def stated_samples(opened: Opened, stream: Any, count: int) -> int:
    """Return the samples up to the end that an MP4's edit list states, of ``count``: FFmpeg returns whole frames."""
    if opened.kind != MP4 or not stream.duration or not stream.time_base or not count:
        return count
    stated = round(stream.duration * stream.time_base * stream.codec_context.sample_rate)
    return stated if 0 < count - stated <= FILLING else count


def require_sound(opened: Opened) -> Any:
    """Return the stream of sound. Raises BadSample: MODALITY/no-sound, format."""
    stream = sound_stream(opened)
    if stream is not None:
        return stream
    if opened.container.streams.audio:
        raise opened.bad("format", "the codec of its sound is not read")
    raise opened.bad("no-sound", f"{opened.kind.name} without sound")


def too_long(opened: Opened, found: str, most: float) -> Any:
    """Return the reason MODALITY/too-large of a sound, or too-long of a video's."""
    why = "too-large" if opened.modality == "audio" else "too-long"
    return opened.bad(why, f"{found} of sound, at most {most:g} s are read")


def _mix(frame: Any, all_channels: bool) -> np.ndarray:
    """Return a frame's mean over channels, (n,) float32 in full scale, or its channels (n, channels)."""
    array = frame.to_ndarray()  # (channels, n), or (1, n * channels) where they are interleaved
    channels = len(frame.layout.channels)
    rows = array if frame.format.is_planar else array.reshape(-1, channels).T
    scale = SCALES.get(frame.format.name.removesuffix("p"))
    wave = rows.astype(np.float32)
    if scale is not None:
        wave = (wave - (128 if rows.dtype == np.uint8 else 0)) / scale
    if all_channels:
        return np.ascontiguousarray(wave.T)
    with np.errstate(invalid="ignore", over="ignore"):
        return wave[0] if len(wave) == 1 else wave.mean(0, dtype=np.float32)
