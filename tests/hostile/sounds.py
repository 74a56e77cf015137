"""Sounds of 10^9 samples, and videos that never end: headers that state more than there is."""

from __future__ import annotations

import io
import struct

from hostile.pictures import patch, small, zip_of
from hostile.request import EITHER, Hostile, file

RATE = 8000


def wave(
    samples: int, *, rate: int = RATE, channels: int = 1, bits: int = 16, code: int = 1, data: bytes = bytes(999)
) -> bytes:
    """Return a WAVE file whose header states so many samples."""
    frame = channels * bits // 8
    size = min(samples * frame, 2**32 - 50)
    form = struct.pack("<HHIIHH", code, channels, rate, min(rate * frame, 2**32 - 1), frame % 65536, bits)
    return (
        b"RIFF"
        + struct.pack("<I", size + 36)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
        + data
    )


def rf64(samples: int) -> bytes:
    """Return an RF64 file of 64-bit sizes."""
    sizes = struct.pack("<QQQI", 2 * samples + 100, 2 * samples, samples, 0)
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    return (
        b"RF64\xff\xff\xff\xffWAVEds64"
        + struct.pack("<I", 28)
        + sizes
        + b"fmt "
        + struct.pack("<I", 16)
        + form
        + b"data\xff\xff\xff\xff"
        + bytes(1000)
    )


def tone(kind: str, seconds: float = 0.2, subtype: str | None = None) -> bytes:
    """Return a good sound."""
    import numpy as np
    import soundfile

    out = io.BytesIO()
    times = np.arange(int(RATE * seconds)) / RATE
    soundfile.write(out, 0.5 * np.sin(2764.6 * times).astype(np.float32), RATE, format=kind, subtype=subtype)
    return out.getvalue()


def flac_bomb(samples: int) -> bytes:
    """Return a FLAC whose header states so many samples: 36 bits behind the first 18 bytes."""
    data = tone("FLAC")
    high = data[21] & 0xF0 | samples >> 32 & 0x0F
    return patch(data, 21, bytes([high]) + struct.pack(">I", samples & 0xFFFFFFFF))


def ogg_bomb() -> bytes:
    """Return an Ogg file whose last page states 2 ** 62 samples."""
    data = tone("OGG", subtype="VORBIS")
    return patch(data, data.rindex(b"OggS") + 6, struct.pack("<Q", 2**62))


def aiff_bomb() -> bytes:
    """Return an AIFF that states 2 ** 32 samples at 10^30 Hz."""
    common = struct.pack(">hIh", 2, 2**32 - 1, 16) + b"\x40\x62" + b"\xff" * 8
    return (
        b"FORM"
        + struct.pack(">I", 2**31)
        + b"AIFFCOMM"
        + struct.pack(">I", 18)
        + common
        + b"SSND"
        + struct.pack(">III", 2**31, 0, 0)
    )


def sounds() -> list[Hostile]:
    """Return sounds that state more than they have, and damaged ones."""
    kind = "sounds"
    refused = {
        "WAVE of 10^9 samples": wave(10**9),
        "WAVE of 65,535 channels": wave(1000, channels=65_535),
        "WAVE of no channel": wave(1000, channels=0),
        "WAVE of 0 Hz": wave(400, rate=0),
        "WAVE of 2³¹ Hz": wave(400, rate=2**31 - 1),
        "WAVE of 0 bits": wave(400, bits=0),
        "WAVE of an unknown code": wave(400, code=0x9999),
        "WAVE in ADPCM of 10^9 samples": wave(10**9, bits=4, code=0x11),
        "RF64 of 10^12 samples": rf64(10**12),
        "FLAC of 10^9 samples": flac_bomb(10**9),
        "FLAC of 2³⁶ samples": flac_bomb(2**36 - 1),
        "FLAC cut": tone("FLAC")[:200],
        "FLAC of 610 s": lambda: tone("FLAC", 610),
        "AIFF of 2³² samples": aiff_bomb(),
        "ID3 of 2²⁸ bytes": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000),
        "MP3 of headers": b"\xff\xfb\x90\x64" * 20_000,
        "a picture": small("PNG"),
        "a playlist": b"#EXTM3U\nhttp://127.0.0.1/a.mp3\n/etc/passwd\n",
        "a list of ffmpeg": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "a page of Ogg again and again": tone("OGG", subtype="VORBIS")[:58] * 5000,
        "nothing": b"",
        "noise": bytes(range(256)) * 400,
    }
    odd = {
        "WAVE of 2³² bytes of floats": wave(2**30, bits=32, code=3),
        "AU of 10^9 samples": b".snd" + struct.pack(">IIIII", 24, 2**31, 3, RATE, 1) + bytes(100),
        "Ogg of 2⁶² samples": ogg_bomb(),
        "WAVE of NaN": wave(200, bits=32, code=3, data=struct.pack("<f", float("nan")) * 200),
        "WAVE of infinities": wave(200, bits=32, code=3, data=struct.pack("<f", float("inf")) * 200),
        "WAVE of 10^38": wave(200, bits=32, code=3, data=struct.pack("<f", 3e38) * 200),
        "WAVE of no samples": wave(0, data=b""),
        "WAVE of one sample": wave(1, data=b"\0\1"),
    }
    return [
        *(file(kind, name, "audio", data) for name, data in refused.items()),
        *(file(kind, name, "audio", data, "wav", fits=EITHER) for name, data in odd.items()),
    ]


def videos() -> list[Hostile]:
    """Return videos of frames or lengths that no memory holds, and lists that name files."""
    from videos import write_video

    kind, good = "videos", write_video("mp4", "mpeg4", frames=6)
    header, media = good.index(b"mvhd"), good.index(b"stsz")
    refused = {
        "MP4 of 2³¹ samples": patch(good, media + 12, struct.pack(">I", 2**31 - 1)),
        "MP4 cut": good[: len(good) // 2],
        "MP4 of a box of 2⁶³": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + struct.pack(">I4sQ", 1, b"moov", 2**63 - 1),
        "MP4 of boxes in boxes": b"\0\0\0\x18ftypisom\0\0\0\0isommp42"
        + b"".join(struct.pack(">I4s", 8 * n, b"moov") for n in range(5000, 0, -1)),
        "Matroska of a size of 2⁵⁶": b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 7 + b"webm" + bytes(1000),
        "AVI of 10^9 frames": b"RIFF"
        + struct.pack("<I", 2**31)
        + b"AVI LIST"
        + struct.pack("<I", 2**31)
        + b"hdrlavih"
        + bytes(500),
        "a playlist of HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
        "a list of ffmpeg": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        "a ZIP": zip_of(**{"a.mp4": good}),
        "nothing": b"",
    }
    odd = {
        "MP4 of 2³² ticks": patch(good, header + 20, struct.pack(">I", 2**32 - 1)),
        "MP4 of 65,535² pixels": patch(good, good.index(b"mp4v", media - 400) + 28, struct.pack(">HH", 65_535, 65_535)),
        "GIF of 60,000²": small("GIF"),
    }
    return [
        *(file(kind, name, "video", data, "mp4") for name, data in refused.items()),
        *(file(kind, name, "video", data, "mp4", fits=EITHER) for name, data in odd.items()),
    ]
