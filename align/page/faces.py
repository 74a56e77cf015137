"""What a sample looks like on the page: a member's bytes made small, and ready for the page's JSON block.

A face's kind follows from the member's suffix, never from the modality's name: a modality `depth` that is stored as PNG
is shown as a picture. What cannot be shown (features, a broken member) has no face; its card then has the caption only.
"""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any, NamedTuple

import numpy as np

from align.data.labels import in_words
from align.data.meta import read_meta
from align.data.names import FOREIGN, MemberNames, modalities
from align.data.rows import RowSource, find_rows
from align.media.pictures.read import from_file, open_picture
from align.media.sounds.recording import recording
from align.page.geometry import normal, scatter
from align.preprocess import Image
from align.values import BadSample, Sample

SHOWN = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
"""Formats that browsers show, by their content and not by their name; others are written anew."""
SOUNDS = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg"}

MAX_SIDE = 256  # pixels of a picture that has to be written anew
MAX_PIXELS = 1 << 28  # of a picture that is decoded for the page
MAX_PICTURE = 24_000  # bytes up to which a picture is kept as it is stored
MAX_SOUND = 48_000  # bytes up to which a sound is kept as it is stored
MAX_SECONDS = 6.0  # of a longer sound
MAX_READ = 600.0  # seconds that are decoded of any sound
PEAKS = 56  # bars of the drawn waveform


class Face(NamedTuple):
    """One row as the page shows it. kind: image, sound, cloud or text; data: its bytes (text: UTF-8).

    sound: peaks are PEAKS loudness bytes, seconds its length. cloud: P points as P·3 int8 places, P·3 int8 normals and
    P·3 uint8 colours; radius is the place 127 in the cloud's own units.
    """

    kind: str
    data: bytes
    type: str = ""
    peaks: bytes = b""
    seconds: float = 0.0
    radius: float = 0.0

    def json(self) -> dict[str, Any]:
        """The face for the page's JSON block; binary parts in base64."""
        if self.kind == "text":
            return {"k": "text", "d": self.data.decode()}
        out: dict[str, Any] = {"k": self.kind, "d": b64encode(self.data).decode()}
        if self.kind == "cloud":
            return out | {"r": round(self.radius, 6)}
        out["t"] = self.type
        if self.kind == "sound":
            out |= {"w": b64encode(self.peaks).decode(), "s": round(self.seconds, 3)}
        return out


def face(modality: str, sample: Sample, members: MemberNames = FOREIGN) -> Face | None:
    """The first row of a modality that can be shown (of a text, all its lines), or None.

    members: as of ``Shards``, for names that say no modality.
    """
    found = _sources(sample, modality, members)
    lines = [_line(row) for row in found if row.suffix == "txt"]
    if lines:
        return words("\n".join(lines))
    return next((shown for row in found if (shown := face_of(row.member, row.data)) is not None), None)


def face_of(member: str, content: bytes) -> Face | None:
    """One member by its suffix, or None where it cannot be shown. Meant for members that a preprocess has read: a
    picture is opened up to MAX_PIXELS, whatever its tower allows."""
    suffix = member.rpartition(".")[2].lower()
    if suffix == "txt":
        return words(" ".join(content.decode(errors="replace").split()))
    try:
        return _face(suffix, content)
    except (BadSample, OSError, ValueError, ArithmeticError, RuntimeError, IndexError):
        return None  # a broken member is counted elsewhere


def caption(sample: Sample, label: Any = None, members: MemberNames = FOREIGN) -> str:
    """The first line of the sample's first text, else its label in words, else ""."""
    for modality in sorted(modalities((name for name in sample if not name.startswith("__")), members)):
        for row in _sources(sample, modality, members):
            if row.suffix == "txt" and (line := _line(row)):
                return line
    return in_words(label)


def _sources(sample: Sample, modality: str, members: MemberNames) -> list[RowSource]:
    rows = find_rows(sample, modality, (), members, read_meta(sample, members)[0].json)
    return [row for row in rows if isinstance(row, RowSource) and not row.negative]


def _line(row: RowSource) -> str:
    """One caption, on one line."""
    return " ".join(row.data.decode(errors="replace").split())


def _face(suffix: str, content: bytes) -> Face | None:
    if suffix in Image.suffixes:
        return picture(content)
    if suffix in SOUNDS:
        return sound(content, SOUNDS[suffix])
    if suffix == "npy":
        return cloud(np.load(io.BytesIO(content), allow_pickle=False))
    return None


def words(text: str) -> Face | None:
    """Text as it stands, up to four lines (captions of one sample)."""
    lines = [line for line in text.split("\n") if line]
    return Face("text", "\n".join(lines[:4]).encode()) if lines else None


def picture(content: bytes) -> Face:
    """The stored bytes, or a smaller picture where they are large or no browser reads them. Raises BadSample."""
    from PIL import Image as Picture

    with open_picture(content, MAX_PIXELS) as found:
        type = SHOWN.get(found.kind)
    if type and len(content) <= MAX_PICTURE:
        return Face("image", content, type)
    small = Picture.fromarray(from_file(content, MAX_PIXELS))
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=86)
    return Face("image", out.getvalue(), "image/jpeg")


def sound(content: bytes, type: str) -> Face:
    """The stored bytes, or their first seconds in mono as MP3 where they are large. Raises BadSample, OSError."""
    import soundfile

    is_long = len(content) > MAX_SOUND
    with recording(content, float("inf")) as opened:
        rate = opened.rate
        mono = opened.read(min(opened.frames, int((MAX_SECONDS if is_long else MAX_READ) * rate)))
    if is_long:
        out = io.BytesIO()
        soundfile.write(out, mono, rate, format="MP3", subtype="MPEG_LAYER_III")
        content, type = out.getvalue(), "audio/mpeg"
    return Face("sound", content, type, peaks=peaks(mono), seconds=len(mono) / rate)


def peaks(mono: np.ndarray) -> bytes:
    """The loudness of PEAKS equal parts of a wave (T,), as bytes; the loudest part is 255."""
    parts = np.array_split(np.nan_to_num(np.abs(mono)), PEAKS)
    loud = np.array([float(part.max()) if len(part) else 0.0 for part in parts])
    return np.round(255 * np.sqrt(loud / max(float(loud.max()), 1e-9))).astype(np.uint8).tobytes()


def cloud(points: np.ndarray) -> Face | None:
    """(P,3) or (P,6) xyz + rgb in [0,1] as a face of at most 512 points; None for any other array."""
    if points.ndim != 2 or points.shape[1] not in (3, 6) or len(points) < 8:
        return None
    points = points.astype(np.float32)
    points = points[np.isfinite(points).all(axis=1)]
    points = points[scatter(points[:, :3])]
    low, high = points[:, :3].min(axis=0), points[:, :3].max(axis=0)
    xyz = points[:, :3] - (low + high) / 2
    radius = float(np.linalg.norm(xyz, axis=1).max()) or 1.0
    colour = points[:, 3:] if points.shape[1] == 6 else np.full_like(xyz, 0.4)
    places = np.round(127 * xyz / radius).astype(np.int8)
    normals = np.round(127 * normal(xyz)).astype(np.int8)
    colours = np.round(255 * colour.clip(0, 1)).astype(np.uint8)
    return Face("cloud", places.tobytes() + normals.tobytes() + colours.tobytes(), radius=radius)
