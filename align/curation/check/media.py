"""One member at a time: can it be read, and is there anything in it?

Reading is the preprocesses' own, so a reason here is the reason that training would count.
"""

from __future__ import annotations

import io
import unicodedata
from typing import NamedTuple

import numpy as np

from align.media.npy import read_npy
from align.media.pictures.levels import finding
from align.media.pictures.read import decode, open_picture
from align.media.pictures.tiff import MOST_PAGES, count_pages
from align.media.sounds.read import check_wave
from align.media.sounds.recording import recording
from align.preprocess import Audio, Image, Points
from align.preprocess.points import has_colour
from align.preprocess.text import read_text

Found = list[tuple[str, str]]
"""(reason, detail) of what is odd in a member that can be read."""

FORMATS_OF = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
FORMATS_OF |= {"tif": "TIFF", "tiff": "TIFF", "avif": "AVIF"}
SOUNDS_OF = {"WAV": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mp3"}
TINY = 32  # pixels
NARROW = 8  # the image preprocess cuts what is longer
SILENT = 1e-4  # of full scale, -80 dB
FULL = 0.999  # of full scale: int16 ends at 0.99997
CLIPPED = 0.001  # of a clip's samples
SHORT = 0.025  # seconds: a frame of 400 at 16 kHz
OFFSET = 0.1  # of full scale
FEW = 64  # points
THIN = 1e-4  # a cloud's thickness over its length
WORDS = 75  # words are tokens at least, and CLIP's 77 hold two marks

_image, _audio = Image(), Audio()
_points = Points(preset="absolute")


class Heard(NamedTuple):
    rate: int
    channels: int
    wave: np.ndarray | None  # (T,) float32, where there is something in it


class Cloud(NamedTuple):
    coloured: bool
    xyz: np.ndarray | None  # (P, 3), where the points are several


def check_picture(data: bytes, suffix: str) -> tuple[Found, np.ndarray | None]:
    """What is odd, and the pixels (H, W, 3) uint8; None of a picture that is of one colour. Raises BadSample."""
    pixels, used = decode(data, _image.max_pixels, every_bit=True)
    found: Found = []
    with open_picture(data) as opened:
        kind, mode = str(opened.image.format), opened.image.mode
        pages = count_pages(io.BytesIO(data)) if opened.page is not None else 1
        frames = 1 if opened.page is not None else getattr(opened.image, "n_frames", 1)
    if FORMATS_OF.get(suffix, kind) != kind:
        found.append(("image/suffix", f"a {kind} that is named .{suffix}"))
    if frames > 1:
        found.append(("image/animated", f"{frames} pictures"))
    if pages > 1:
        found.append(("image/pages", f"{pages} pages" + (" or more" if pages == MOST_PAGES else "")))
    height, width = pixels.shape[:2]
    if min(height, width) < TINY:
        found.append(("image/tiny", f"{width} × {height} pixels"))
    if max(height, width) > NARROW * min(height, width):
        found.append(("image/narrow", f"{width} × {height} pixels"))
    if dark := finding(used) if used is not None else None:
        found.append(dark)
    if (pixels == pixels[0, 0]).all():
        if dark:
            return found, None  # it is not of one colour, it only looks so
        found.append(("image/flat", f"{width} × {height} {mode}, every pixel {tuple(pixels[0, 0].tolist())}"))
        return found, None
    return found, pixels


def check_sound(data: bytes, suffix: str) -> tuple[Found, Heard]:
    """What is odd, and its rate, channels and wave. Raises BadSample."""
    with recording(data, _audio.max_seconds) as opened:
        rate, channels, kind, stated = opened.rate, opened.sound.channels, opened.sound.format, opened.stated
        wave = check_wave(opened.read(opened.frames), data).numpy()
    found: Found = []
    if not stated:
        found.append(("audio/open-ended", f"{len(wave) / rate:.2f} s of {kind} were found"))
    if SOUNDS_OF.get(kind, suffix) != suffix:
        found.append(("audio/suffix", f"a {kind} that is named .{suffix}"))
    seconds, loudness = len(wave) / rate, np.abs(wave)
    if seconds < SHORT:
        found.append(("audio/short", f"{len(wave)} samples at {rate} Hz"))
    silent = loudness.max() < SILENT
    if silent:
        found.append(("audio/silent", f"{seconds:g} s, the loudest sample is {loudness.max():.1g}"))
    elif (share := clipped(loudness)) > CLIPPED:
        found.append(("audio/clipped", f"{share:.1%} of {seconds:g} s"))
    if abs(wave.mean()) > OFFSET:
        found.append(("audio/offset", f"its mean is {wave.mean():.2f}"))
    return found, Heard(rate, channels, None if silent or seconds < SHORT else wave)


def clipped(loudness: np.ndarray) -> float:
    """The share of samples (T,) that stand at full scale, three or more in a row."""
    full = loudness >= FULL
    if not full.any():
        return 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= 3].sum() / len(loudness))


def check_cloud(data: bytes) -> tuple[Found, Cloud]:
    """What is odd, whether it has colours, and its places. Raises BadSample."""
    cloud = _points.decode(data)[:, :3].double().numpy()
    array = read_npy(io.BytesIO(data), "points", limit=6 * _points.max_points)
    coloured = has_colour(array)
    found: Found = []
    if len(cloud) < FEW:
        found.append(("points/few", f"{len(cloud)} points"))
    distinct = len(np.unique(cloud, axis=0))
    if distinct == 1:
        where = ", ".join(f"{x:.3g}" for x in cloud[0])
        return [*found, ("points/identical", f"{len(cloud)} times ({where})")], Cloud(coloured, None)
    if distinct < len(cloud) / 2:
        found.append(("points/repeated", f"{distinct} of {len(cloud)} are distinct"))
    spread = np.sqrt(np.linalg.eigvalsh(np.cov(cloud.T)).clip(0))  # (3,) along its axes, the thinnest first
    if spread[1] <= THIN * spread[2]:
        found.append(("points/line", f"{len(cloud)} points"))
    elif spread[0] <= THIN * spread[2]:
        found.append(("points/planar", f"{len(cloud)} points"))
    return found, Cloud(coloured, cloud if len(cloud) >= FEW else None)


def check_array(data: bytes, modality: str) -> Found:
    """An .npy of a modality of one's own: readable and finite. Raises BadSample."""
    array = read_npy(io.BytesIO(data), modality, limit=1 << 28)
    if array.size == 0:
        return [(f"{modality}/empty", f"shape {array.shape}")]
    wrong = int((~np.isfinite(array)).sum())
    return [(f"{modality}/non-finite", f"{wrong} of {array.size} numbers")] if wrong else []


def check_words(data: bytes) -> tuple[Found, str]:
    """What is odd, and the caption. Raises BadSample."""
    text = read_text(data)
    found: Found = []
    short = text if len(text) <= 80 else text[:79] + "…"
    if "\ufffd" in text:
        found.append(("text/mojibake", short))
    if any(unicodedata.category(c) == "Cc" and c not in "\t\r\n" for c in text):
        found.append(("text/control", "".join(c if c.isprintable() else "·" for c in short)))
    if (words := len(text.split())) > WORDS:
        found.append(("text/long", f"{words} words: {short}"))
    return found, text
