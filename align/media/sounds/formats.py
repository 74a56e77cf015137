"""Formats of sound that libsndfile does not read, by their first bytes, not by a file's name."""

from __future__ import annotations

import shlex
from pathlib import Path

from align.extras import pip_install

MAGIC = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "ASF (WMA)",
    b"#!AMR": "AMR",
    b"#!SILK": "SILK",
    b"\2#!SILK": "SILK",
    b"ADIF": "AAC (ADIF)",
    b"\x0b\x77": "AC-3",
    b"\x7f\xfe\x80\x01": "DTS",
    b"wvpk": "WavPack",
    b"TTA1": "True Audio",
    b"tBaK": "TAK",
    b"OFR ": "OptimFROG",
    b"MAC ": "Monkey's Audio",
    b"MPCK": "Musepack",
    b"MP+": "Musepack",
    b"DSD ": "DSF",
    b"FRM8": "DSDIFF",
    b".RMF": "RealMedia",
    b".ra\xfd": "RealAudio",
    b"FLV\1": "Flash video",
    b"\0\0\1\xba": "an MPEG programme stream",
}

CONVERTED = """
    ac3 aifc alac amr ape au awb caf dsf dts m4b m4r mp2 mpc oga opus ra spx tak tta w64 weba wma wv
"""
SUFFIXES = frozenset(CONVERTED.split())
"""Suffixes of sound files that are converted before they are stored: ffmpeg reads them all."""


def foreign(head: bytes) -> str | None:
    """Return the name of a format that ffmpeg reads and libsndfile does not, by the first 400 bytes, or None."""
    if head[:3] == b"ID3":
        size = sum((b & 0x7F) << shift for b, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
        head = head[10 + size :]
    if head[4:8] == b"ftyp":
        brand = head[8:12].decode("latin-1").strip()
        return f"MP4 ({brand}; AAC or ALAC mostly)" if brand.isprintable() and brand else "MP4 (AAC or ALAC mostly)"
    if head[:1] == b"\0" and head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "QuickTime or MP4 (AAC or ALAC mostly)"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    if head[0:2] in (b"\x56\xe0", b"\x56\xe1", b"\x56\xe2"):
        return "AAC (LOAS)"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[:4] == b"OggS":
        codecs = {b"Speex   ": "Speex", b"\x7fFLAC": "FLAC", b"\x80theora": "Theora", b"fishead\0": "Skeleton"}
        codec = next((name for mark, name in codecs.items() if head[28:].startswith(mark)), None)
        return None if codec is None else f"Ogg with {codec}"
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] == b"\x47":
        return "an MPEG transport stream"
    return next((name for mark, name in MAGIC.items() if head.startswith(mark)), None)


def advice(name: str, has_reader: bool = False) -> str:
    """Return a sentence with the format of a file, and the programs that read it. has_reader: True where PyAV would."""
    reader = f"{pip_install('video')} adds PyAV, which reads it" if has_reader else "torchcodec decodes it to an array"
    return (
        f"its content is {name}, which libsndfile does not read; `ffmpeg -i FILE out.flac` makes a file that is read, "
        f"{reader}"
    )


def convert(path: Path) -> str:
    """Return a message's remedy: the command that converts a file of sound to one that is read."""
    return f"convert it: `ffmpeg -i {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.flac')))}`"
