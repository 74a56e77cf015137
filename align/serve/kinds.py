"""The types that files are sent as, and the files that browsers show as they are."""

from __future__ import annotations

from align.media.picture import FORMATS_OF
from align.media.picture import SHOWN as PICTURES
from align.media.pictures.formats import kind_of
from align.media.sound import SHOWN as SOUNDS
from align.media.video import SHOWN as VIDEOS
from align.media.video import VIDEO
from align.media.words import WORDS

OPAQUE = "application/octet-stream"
HEAD = 256  # bytes of a file that tell its format
PNG_DEPTH = 24  # place of the bits of a channel in a PNG's header
WAVE_FORMATS = (1, 3, 0xFFFE)  # integers, floats, either with more channels
EBML = b"\x1a\x45\xdf\xa3"
SOUND_STARTS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")


def media_type(suffix: str) -> str:
    """Return the type of a member by its suffix. Types that a browser could run as a page are never among them."""
    if suffix in FORMATS_OF:
        return PICTURES.get(FORMATS_OF[suffix], OPAQUE)
    if suffix in WORDS.suffixes:
        return "text/plain; charset=utf-8"
    return VIDEOS.get(suffix) or SOUNDS.get(suffix, OPAQUE)


def shown_type(head: bytes, suffix: str) -> str | None:
    """Return the type of a file that browsers show as it is, by its first bytes, or None.

    A picture of 16 bits is none: browsers show the upper eight of them alone.
    """
    if suffix in FORMATS_OF:
        kind = kind_of(head)
        deep = kind == "PNG" and len(head) > PNG_DEPTH and head[PNG_DEPTH] == 16
        return None if deep or kind is None else PICTURES.get(kind)
    if suffix in SOUNDS:
        wave = head[:4] == b"RIFF" and int.from_bytes(head[20:22], "little") in WAVE_FORMATS
        return SOUNDS[suffix] if wave or head.startswith(SOUND_STARTS) else None
    if suffix in VIDEO.suffixes:
        return _video_type(head)
    return media_type(suffix) if suffix in WORDS.suffixes else None


def _video_type(head: bytes) -> str | None:
    """Return the type of a container that browsers open. A codec in it may still be one that they do not play."""
    if head[4:8] == b"ftyp":
        return "video/mp4"
    return "video/webm" if head.startswith(EBML) and b"webm" in head[:64] else None
