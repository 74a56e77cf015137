"""Sounds: any file that libsndfile reads here, or PyAV (extra ``video``), as a mono wave with its rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from align.media.containers.opening import has_package
from align.media.medium import Examined, Face, Measures, Medium, Note, Oddity, Severity, Stored
from align.media.recode import WRITTEN_SOUNDS, Recode
from align.media.sketch import wave_blocks
from align.media.sounds import formats
from align.media.sounds.contained import SUFFIXES as CONTAINED
from align.media.sounds.contained import container_kind
from align.media.sounds.fingerprint import sound_print
from align.media.sounds.ogg import with_serial
from align.media.sounds.read import check_wave, from_file, read_sound
from align.media.sounds.recording import heading, recording
from align.values import BadSample

MAX_SECONDS = 600.0  # of a sound that is decoded
SUFFIX_OF = {"WAV": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}  # libsndfile's name of a format -> suffix
SILENT = 1e-4  # of full scale, -80 dB
FULL = 0.999  # of full scale: int16 ends at 0.99997
CLIPPED = 0.001  # of a clip's samples
SHORT = 0.025  # seconds: a frame of 400 at 16 kHz
OFFSET = 0.1  # of full scale
BLOCK = 1 << 16  # frames: libsndfile's Vorbis overflows its stack on a long recording written at once

SHOWN = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
}
SHOWN_BYTES = 48_000  # up to which a sound is played as it is stored
SHOWN_SECONDS = 6.0  # of a longer sound
PEAKS = 56  # bars of the drawn waveform


@final
class Sound(Medium):
    """Recordings in one of five formats, and those in MP4, AAC, WebM and Matroska where PyAV is installed."""

    name = "sound"
    element = "sound"
    modality = "audio"
    suffixes = ("flac", "wav", "ogg", "mp3", "aiff", "aif", "m4a", "aac", "mp4", "webm", "mka")
    folders = ("audio", "audios", "sound", "sounds", "wav", "wavs", "flac", "mp3")
    columns: ClassVar[Mapping[str, str]] = {"seconds": "seconds", "sample_rate": "rate"}
    odd: ClassVar[Mapping[str, Oddity]] = {
        "rate": Oddity("audio/odd-rate", "{} Hz, most have {}", "{} Hz, expected {}"),
        "channels": Oddity("audio/channels", "{}, most have {}"),
    }
    reasons: ClassVar[Mapping[str, tuple[Severity, str]]] = {
        "audio/format": (
            "error",
            "a format that is not read (WMA, AMR, …; MP4 and AAC without the extra video); `ffmpeg -i FILE out.flac` "
            "makes one that is",
        ),
        "audio/no-sound": ("error", "a container without a stream of sound"),
        "audio/no-length": ("error", "no header states its length, and it cannot be read to its end"),
        "audio/suffix": ("warning", "its content is of another format than its name says"),
        "audio/silent": ("warning", "no sample is louder than -80 dB"),
        "audio/clipped": ("warning", "more than 1 in 1000 samples stand at full scale, three or more in a row"),
        "audio/short": ("warning", "less than 25 ms: shorter than one frame of a spectrogram"),
        "audio/offset": ("warning", "the wave's mean is far from zero"),
        "audio/odd-rate": ("warning", "another sample rate than the other members, or than --rate"),
        "audio/channels": ("note", "another number of channels than most; the mean of the channels is used"),
        "audio/open-ended": (
            "note",
            "no header states its length: it is read to its end, and that it was cut would not be seen",
        ),
    }

    def read(self, source: bytes | Path) -> tuple[np.ndarray, int]:
        """Return (the mean of the channels, (T,) float32, and Hz). Raises BadSample as ``read_sound``."""
        return from_file(source, MAX_SECONDS)

    def describe(self, data: bytes) -> dict[str, Any]:
        found = heading(data)
        return {"seconds": round(found.seconds, 4), "rate": found.rate, "channels": found.channels}

    def measure(self, about: Mapping[str, Any]) -> Measures:
        kinds = {"Hz": str(about["rate"]), "channels": str(about["channels"])}
        return Measures({"seconds": about["seconds"]}, kinds)

    def say(self, about: Mapping[str, Any], size: int) -> str:
        channels = "mono" if about["channels"] == 1 else f"{about['channels']} channels"
        return f"{about['seconds']:g} s at {about['rate']} Hz, {channels}"

    def examine(self, data: bytes, suffix: str, modality: str) -> Examined:
        """Content: (wave (T,) float32, Hz), or None for a silent or short sound."""
        with recording(data, MAX_SECONDS) as opened:
            rate, channels, kind, stated = opened.rate, opened.sound.channels, opened.sound.format, opened.stated
            wave = check_wave(opened.read(opened.frames), data).numpy()
        found: list[Note] = []
        if not stated:
            found.append(Note("audio/open-ended", f"{len(wave) / rate:.2f} s of {kind} were found"))
        if suffix not in CONTAINED.get(kind, (SUFFIX_OF.get(kind, suffix),)):
            found.append(Note("audio/suffix", f"a {kind} that is named .{suffix}"))
        seconds, loudness = len(wave) / rate, np.abs(wave)
        if seconds < SHORT:
            found.append(Note("audio/short", f"{len(wave)} samples at {rate} Hz"))
        silent = loudness.max() < SILENT
        if silent:
            found.append(Note("audio/silent", f"{seconds:g} s, the loudest sample is {loudness.max():.1g}"))
        elif (share := clipped_share(loudness)) > CLIPPED:
            found.append(Note("audio/clipped", f"{share:.1%} of {seconds:g} s"))
        if abs(wave.mean()) > OFFSET:
            found.append(Note("audio/offset", f"its mean is {wave.mean():.2f}"))
        content = None if silent or seconds < SHORT else (wave, rate)
        return Examined(found, {"rate": str(rate), "channels": str(channels)}, content=content)

    def fingerprint(self, content: tuple[np.ndarray, int]) -> tuple[np.ndarray, np.ndarray] | None:
        return sound_print(*content)

    def recode(self, data: bytes, suffix: str, modality: str, settings: Recode) -> Stored:
        """Write a sound of the modality ``audio`` as asked.

        Raises BadSample for no bytes, and for a format that no decoder here reads, whatever its name says: WMA, AMR
        and their like, and MP4 or AAC where PyAV is not installed.
        """
        if modality != self.modality:
            return Stored(data, suffix)
        if not data:
            raise BadSample("audio/empty", "no bytes")
        if (content := formats.foreign(data[:400])) is not None:
            is_contained = container_kind(io.BytesIO(data)) is not None
            if not is_contained or not has_package():
                raise BadSample("audio/format", formats.advice(content, has_reader=is_contained))
        return _write(data, settings) if settings.audio_format or settings.sample_rate else Stored(data, suffix)

    def advise(self, path: Path) -> str:
        return formats.convert(path) if path.suffix.lower().removeprefix(".") in formats.SUFFIXES else ""

    def face(self, data: bytes, suffix: str) -> Face:
        """Return the stored bytes, or the first seconds of a large sound, or of a container's, in mono as MP3.

        A format that browsers do not play (AIFF) becomes FLAC.
        """
        import soundfile

        is_long = len(data) > SHOWN_BYTES or container_kind(io.BytesIO(data)) is not None
        most = SHOWN_SECONDS if is_long else MAX_SECONDS
        with recording(data, float("inf"), most) as opened:
            rate, type = opened.rate, SHOWN.get(suffix)
            mono = opened.read(min(opened.frames, int(most * rate)))
        if is_long:
            out = io.BytesIO()
            soundfile.write(out, mono, rate, format="MP3", subtype="MPEG_LAYER_III")
            data, type = out.getvalue(), "audio/mpeg"
        elif type is None:
            out = io.BytesIO()
            soundfile.write(out, mono, rate, format="FLAC", subtype="PCM_16")
            data, type = out.getvalue(), SHOWN["flac"]
        return Face("sound", data, {"type": type, "peaks": peaks(mono), "seconds": len(mono) / rate})

    def sketch(self, data: bytes, *, colours: bool) -> str:
        return wave_blocks(self.read(data)[0])


def clipped_share(loudness: np.ndarray) -> float:
    """Return the share of samples (T,) that stand at full scale, three or more in a row."""
    full = loudness >= FULL
    if not full.any():
        return 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= 3].sum() / len(loudness))


def peaks(mono: np.ndarray) -> bytes:
    """Return the loudness of PEAKS equal parts of a wave (T,), as bytes. The loudest part is 255."""
    parts = np.array_split(np.nan_to_num(np.abs(mono)), PEAKS)
    loud = np.array([float(part.max()) if len(part) else 0.0 for part in parts])
    return np.round(255 * np.sqrt(loud / max(float(loud.max()), 1e-9))).astype(np.uint8).tobytes()


def _write(data: bytes, settings: Recode) -> Stored:
    """Return a sound in mono in the format and at the rate of ``settings``."""
    import soundfile

    kind = settings.audio_format or "flac"
    rate = settings.sample_rate or heading(data, MAX_SECONDS).rate
    wave = _on_one_thread(lambda: read_sound(data, rate, MAX_SECONDS).numpy())  # (T,) float32
    out = io.BytesIO()
    form, subtype = WRITTEN_SOUNDS[kind]
    try:
        with soundfile.SoundFile(out, "w", rate, 1, subtype, format=form) as file:
            for start in range(0, len(wave), BLOCK):
                file.write(wave[start : start + BLOCK])
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise BadSample("audio/not-writable", f"{rate} Hz as {kind}: {error}") from None
    encoded = out.getvalue()
    return Stored(encoded, "flac") if kind == "flac" else Stored(with_serial(encoded, 0), "ogg")


def _on_one_thread(function: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the function's value, computed on one thread: a sum in another order would be another recording."""
    import torch

    before = torch.get_num_threads()
    if before == 1:
        return function()
    torch.set_num_threads(1)
    try:
        return function()
    finally:
        torch.set_num_threads(before)


SOUND = Sound()
