"""Faces of samples for a page: their media make members small, here these become data for the page's JSON block.

A face follows from the member's medium, never from the modality's name: a modality `depth` that is stored as PNG is
shown as a picture. A member that cannot be shown (features, a broken one) has no face; its card has the caption only.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from align.data.labels import in_words
from align.data.meta import read_meta
from align.data.names import FOREIGN, TEXT, MemberNames, member_modality, modalities
from align.data.rows import RowSource, find_rows
from align.media import MEDIA, Media
from align.media.choice import medium_of
from align.media.medium import Face
from align.media.words import text_face
from align.values import Sample

LARGEST = 4 << 20  # bytes of a face
POINTS = 100_000  # of a drawing
MOST = 1e9  # of a drawing's places, in its unit


def face(modality: str, sample: Sample, members: MemberNames = FOREIGN, media: Media = MEDIA) -> Face | None:
    """Return the first row of a modality that can be shown (of a text, all its lines), or None.

    members: as of ``Shards``, for names that say no modality.
    """
    found = _sources(sample, modality, members)
    if lines := [_line(row) for row in found if row.suffix == TEXT]:
        return text_face(lines)
    shown = (_make_face(row.suffix, modality, row.data, media) for row in found)
    return next((one for one in shown if one is not None), None)


def face_of(member: str, content: bytes, media: Media = MEDIA) -> Face | None:
    """Return one member by its name, or None where it cannot be shown.

    It is meant for members that a preprocess has read: a picture is opened whatever its tower allows.
    """
    return _make_face(member.rpartition(".")[2].lower(), member_modality(member), content, media)


def caption(sample: Sample, label: Any = None, members: MemberNames = FOREIGN) -> str:
    """Return the first line of the sample's first text, else its label in words, else ""."""
    for modality in sorted(modalities((name for name in sample if not name.startswith("__")), members)):
        for row in _sources(sample, modality, members):
            if row.suffix == TEXT and (line := _line(row)):
                return line
    return in_words(label)


def size(face: Face) -> int:
    """Return the bytes that a face takes, near enough for a page's budget."""
    if isinstance(face.data, str):
        return len(face.data.encode())
    return len(face.data) if isinstance(face.data, bytes) else 16 * sum(map(len, face.data))


def face_json(face: Face) -> dict[str, Any]:
    """Return a face for the page's JSON block: "k" is its element, "d" its data. Binary parts are in base64.

    Raises an error of some kind for a face that its element cannot be drawn of. Points of a drawing that are not finite
    are left out.
    """
    more = face.more
    match face.element:
        case "text":
            return {"k": "text", "d": face.data}
        case "drawing":
            lines = [[(round(float(x), 6), round(float(y), 6)) for x, y in line] for line in face.data]
            lines = [[(x, y) for x, y in line if abs(x) <= MOST and abs(y) <= MOST] for line in lines]
            if not any(lines) or sum(map(len, lines)) > POINTS:
                raise ValueError(f"a drawing has 1 to {POINTS:,} points")
            return {"k": "drawing", "d": [line for line in lines if line]}
        case "cloud":
            if not face.data or len(face.data) % 9:
                raise ValueError("a cloud has 9 bytes a point")
            return {"k": "cloud", "d": _base64(face.data), "r": round(more["radius"], 6)}
        case "picture":
            return {"k": "image", "d": _base64(face.data), "t": more["type"]}
        case "sound":
            peaks = {"w": _base64(more["peaks"]), "s": round(more["seconds"], 3)}
            return {"k": "sound", "d": _base64(face.data), "t": more["type"], **peaks}
        case _:
            raise ValueError(f"no element {face.element!r}")


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _sources(sample: Sample, modality: str, members: MemberNames) -> list[RowSource]:
    rows = find_rows(sample, modality, (), members, read_meta(sample, members)[0].json)
    return [row for row in rows if isinstance(row, RowSource) and not row.negative]


def _line(row: RowSource) -> str:
    """Return a caption on one line."""
    return " ".join(row.data.decode(errors="replace").split())


def _make_face(suffix: str, modality: str, content: bytes, media: Media) -> Face | None:
    medium = medium_of(media, suffix, modality)
    try:
        face = None if medium is None else medium.face(content, suffix)
        if face is None or size(face) > LARGEST:
            return None
        json.dumps(face_json(face), allow_nan=False)  # a face that the page's script cannot draw stops all others
        return face
    except Exception:  # a decoder's own; a broken member is counted elsewhere
        return None
