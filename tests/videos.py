"""Tiny videos and sounds in containers for tests, written by PyAV in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

SHADE = 8  # of 256 levels between two frames: the first 32 can be told apart


def picture(i: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Return the i-th frame (H, W, 3) uint8: its grey tells its number, and its left upper quarter is red."""
    pixels = np.full((height, width, 3), SHADE * i % 256, np.uint8)
    pixels[: height // 2, : width // 2] = (200, SHADE * i % 256 // 2, 0)
    return pixels


def number_of(pixels: np.ndarray) -> int:
    """Return the number of a frame that ``picture`` made, whatever its size, read at its right lower part."""
    height, width, _ = pixels.shape
    return round(float(pixels[3 * height // 5 :, 3 * width // 5 :].mean()) / SHADE)


def write_video(
    format: str = "mp4",
    codec: str = "mpeg4",
    *,
    frames: int = 30,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    gop: int = 6,
    ticks: Sequence[int] | None = None,
    clock: int | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    turn: float = 0,
    pix_fmt: str = "yuv420p",
    sound: str | None = None,
    pictures: Sequence[np.ndarray] | None = None,
) -> bytes:
    """Return a video of ``picture(0), picture(1), …``, or of ``pictures``.

    size: (width, height). ticks: the time of each frame in units of 1 / ``clock``. turn: degrees to the left by which a
    player turns it. sound: the codec of a tone of 440 Hz beside it.
    """
    import av

    out, fine = io.BytesIO(), "rgb24"
    with av.open(out, "w", format=format, options=container or {}) as file:
        video = file.add_stream(codec, rate=fps, options={"threads": "1", **(options or {})})
        video.width, video.height, video.pix_fmt, video.gop_size = *size, pix_fmt, gop
        video.codec_context.time_base = Fraction(1, clock or fps)
        if codec == "mpeg4":
            video.codec_context.qmin = video.codec_context.qmax = 2
        if turn:
            video.set_display_rotation(turn)
        audio = file.add_stream(sound, rate=48000) if sound else None
        for i in range(frames):
            pixels = picture(i, *size) if pictures is None else pictures[i]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), fine)
            frame.pts, frame.time_base = i if ticks is None else ticks[i], Fraction(1, clock or fps)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            _write_tone(file, audio, frames / fps)
    return out.getvalue()


def write_sound(
    format: str = "mp4", codec: str = "aac", *, seconds: float = 1.0, rate: int = 48000, wave: np.ndarray | None = None
) -> bytes:
    """Return a tone of 440 Hz, or ``wave`` (T,) or (T, 2), in a container. format: FFmpeg's ("mp4", "adts", "webm")."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=format) as file:
        _write_tone(
            file,
            file.add_stream(codec, rate=rate, layout="mono" if wave is None or wave.ndim == 1 else "stereo"),
            seconds,
            wave,
        )
    return out.getvalue()


def tone(seconds: float, rate: int = 48000) -> np.ndarray:
    """Return (T,) float32 of 440 Hz at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def _write_tone(file, stream, seconds: float, wave: np.ndarray | None = None) -> None:
    import av

    rate = stream.rate
    wave = tone(seconds, rate) if wave is None else wave.astype(np.float32)
    layout = stream.codec_context.layout.name
    channels = len(stream.codec_context.layout.channels)
    resampler = av.AudioResampler(stream.codec_context.format.name, layout, rate)
    for start in range(0, len(wave), 4096):
        part = wave[start : start + 4096]
        part = part.T if part.ndim == 2 else np.repeat(part[None], channels, axis=0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for ready in resampler.resample(frame):
            file.mux(stream.encode(ready))
    file.mux(stream.encode(None))


def shift(data: bytes, seconds: float, format: str = "mp4") -> bytes:
    """Return a file whose packets come later by ``seconds``; where earlier, an edit list hides those before zero."""
    import av

    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as file, av.open(out, "w", format, {"avoid_negative_ts": "disabled"}) as later:
        streams = {stream.index: later.add_stream_from_template(stream) for stream in file.streams}
        for packet in file.demux():
            if packet.size:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                packet.stream = streams[packet.stream.index]
                later.mux(packet)
    return out.getvalue()
