"""Faces of samples for a page: their media make members small, here these become data for the page's JSON block.

A face follows from the member's medium, never from the modality's name: a modality `depth` that is stored as PNG is
shown as a picture. A member that cannot be shown (features, a broken one) has no face; its card has the caption only.
"""

from __future__ import annotations

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
from align.values import BadSample, Sample


def face(modality: str, sample: Sample, members: MemberNames = FOREIGN, media: Media = MEDIA) -> Face | None:
    """Return the first row of a modality that can be shown (of a text, all its lines), or None.

    members: as of ``Shards``, for names that say no modality.
    """
    found = _sources(sample, modality, members)
    if lines := [_line(row) for row in found if row.suffix == TEXT]:
        return text_face(lines)
    shown = (_shown(row.suffix, modality, row.data, media) for row in found)
    return next((one for one in shown if one is not None), None)


def face_of(member: str, content: bytes, media: Media = MEDIA) -> Face | None:
    """Return one member by its name, or None where it cannot be shown.

    It is meant for members that a preprocess has read: a picture is opened whatever its tower allows.
    """
    return _shown(member.rpartition(".")[2].lower(), member_modality(member), content, media)


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
    """Return a face for the page's JSON block: "k" is its element, "d" its data. Binary parts are in base64."""
    more = face.more
    match face.element:
        case "text":
            return {"k": "text", "d": face.data}
        case "drawing":
            return {
                "k": "drawing",
                "d": [[[round(float(v), 6) for v in point] for point in line] for line in face.data],
            }
        case "cloud":
            return {"k": "cloud", "d": _base64(face.data), "r": round(more["radius"], 6)}
        case "picture":
            return {"k": "image", "d": _base64(face.data), "t": more["type"]}
        case "sound":
            peaks = {"w": _base64(more["peaks"]), "s": round(more["seconds"], 3)}
            return {"k": "sound", "d": _base64(face.data), "t": more["type"], **peaks}


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _sources(sample: Sample, modality: str, members: MemberNames) -> list[RowSource]:
    rows = find_rows(sample, modality, (), members, read_meta(sample, members)[0].json)
    return [row for row in rows if isinstance(row, RowSource) and not row.negative]


def _line(row: RowSource) -> str:
    """Return a caption on one line."""
    return " ".join(row.data.decode(errors="replace").split())


def _shown(suffix: str, modality: str, content: bytes, media: Media) -> Face | None:
    medium = medium_of(media, suffix, modality)
    try:
        return None if medium is None else medium.face(content, suffix)
    except (BadSample, OSError, ValueError, ArithmeticError, RuntimeError, LookupError, TypeError):
        return None  # a broken member is counted elsewhere
