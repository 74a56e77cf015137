"""The corpus of the fault suite: real files from one seed, good and hostile. ``python tests/faults/corpus.py FOLDER``.

What only one row needs is made in its test from these parts; ``tests/damage.py`` has the single damaged members.
"""

from __future__ import annotations

import base64
import gzip
import io
import pickle
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Picture

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path: tests/ has the makers of single files
import damage
from damage import Members, cloud, encoded, npy, pixels, sound, wav

SEED = 5


def good(i: int | str) -> Members:
    """A sample of four modalities and a json; every file is whole and unlike the others."""
    return damage.good(i)


def small(i: int | str, extra: bool = True) -> Members:
    """A sample of a few kilobytes, for faults that are injected thousands of times."""
    draw = random.Random(f"{SEED} {i}")
    out = {"image.jpg": encoded(pixels(i, 24), quality=80), "json": b'{"label": "cone"}'}
    out["text.txt"] = draw.randbytes(draw.randrange(200, 1200)).hex().encode()
    return out | ({"points.npy": npy(cloud(i, 20))} if extra else {})


class Placed(NamedTuple):
    """A member in a shard: whose it is and where its header, its bytes and its padding's end are."""

    key: str
    name: str
    header: int
    begin: int
    end: int
    over: int


def shard(path: Path, samples: dict[str, Members]) -> list[Placed]:
    """Write a shard; returns where everything in it is."""
    files = [(key, name, data) for key, members in samples.items() for name, data in members.items()]
    damage.tar(path, [(f"{key}.{name}", data) for key, name, data in files])
    out, at = [], 0
    for key, name, data in files:
        begin = at + 512
        over = begin + len(data) + -len(data) % 512
        out.append(Placed(key, name, at, begin, begin + len(data), over))
        at = over
    return out


class Bad(NamedTuple):
    """A damaged member: in place of ``member`` there is ``data``, and the row is skipped for ``reason``."""

    name: str
    member: str
    reason: str
    data: bytes


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def float_tiff() -> bytes:
    """A depth picture of which one pixel has no depth."""
    out, depth = io.BytesIO(), np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    depth[3, 3] = np.nan
    Picture.fromarray(depth).save(out, "TIFF")
    return out.getvalue()


def undecodable() -> list[Bad]:
    """Members that cannot become a row, each kind once (row 13)."""
    m = good("undecodable")
    jpg, waves, points = m["image.jpg"], m["audio.wav"], m["points.npy"]
    html = b"<html><body>404 not found</body></html>"
    nan = sound("nan").copy()
    nan[100] = np.nan
    lying = waves[:40] + struct.pack("<I", len(waves) * 50) + waves[44:]
    return [
        Bad("jpeg cut in half", "image.jpg", "image/truncated", jpg[: len(jpg) // 2]),
        Bad("jpeg of 0 bytes", "image.jpg", "image/empty", b""),
        Bad("html as jpeg", "image.jpg", "image/not-an-image", html),
        Bad("npy as jpeg", "image.jpg", "image/not-an-image", points),
        Bad("heic as jpeg", "image.jpg", "image/format", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)),
        Bad("tiff cut in half", "image.jpg", "image/truncated", cut(encoded(pixels("tiff"), "TIFF"))),
        Bad("avif cut in half", "image.jpg", "image/truncated", cut(encoded(pixels("avif"), "AVIF"))),
        Bad("tiff of floats with a NaN", "image.jpg", "image/non-finite", float_tiff()),
        Bad("wav cut in half", "audio.wav", "audio/truncated", waves[: len(waves) // 2]),
        Bad("wav of 0 bytes", "audio.wav", "audio/empty", b""),
        Bad("wav of 0 samples", "audio.wav", "audio/empty", wav(np.zeros(0))),
        Bad("wav whose header lies", "audio.wav", "audio/truncated", lying),
        Bad("wav with a NaN", "audio.wav", "audio/non-finite", damage.float_wav(nan)),
        Bad("html as wav", "audio.wav", "audio/unreadable", html),
        Bad("npy of objects", "points.npy", "points/dtype", npy(np.array([{"a": 1}, None], dtype=object))),
        Bad("npy whose shape lies", "points.npy", "points/truncated", damage.lying(m)),
        Bad("npy of 120 GB", "points.npy", "points/too-large", vast()),
        Bad("npy of text", "points.npy", "points/dtype", npy(np.array(["a", "b"]))),
        Bad("npy of no cloud", "points.npy", "points/shape", npy(np.zeros(7, np.float32))),
        Bad("text that is not UTF-8", "text.txt", "text/not-utf8", "ein schöner Gruß".encode("latin-1")),
        Bad("blank text", "text.txt", "text/empty", b" \n\n"),
        Bad("text of 1 MB", "text.txt", "text/too-large", b"word " * 200_000),
        Bad("json cut", "json", "json/invalid", m["json"][:-5]),
    ]


def clouds() -> dict[str, np.ndarray]:
    """Clouds that poison or stretch a scale (row 14)."""
    plain = cloud("odd")
    nan, inf, far = plain.copy(), plain.copy(), plain.copy()
    nan[3, 1], inf[3, 1], far[3, 1] = np.nan, -np.inf, 1e30
    return {
        "one NaN": nan,
        "one infinity": inf,
        "one 1e30": far,
        "identical": plain[:1].repeat(200, 0),
        "empty": plain[:0],
        "3 points": plain[:3],
        "12 points": plain[:12],
        "one point": plain[:1],
        "no colour": plain[:, :3],
        "tiny": (plain * [1e-30, 1e-30, 1e-30, 1, 1, 1]).astype(np.float32),
    }


def sounds() -> dict[str, bytes]:
    """Recordings that break a spectrogram (row 14)."""
    return {
        "silence": wav(np.zeros(4000)),
        "1 sample": wav(sound("click")[:1]),
        "100 samples": wav(sound("click")[:100]),
        "no samples": wav(np.zeros(0)),
        "longer than the window": wav(sound("long", 2.0)),
        "1e30": damage.float_wav(sound("huge") * 1e30),
        "stereo": wav(np.repeat(sound("stereo"), 2), channels=2),
        "8 kHz": wav(sound("slow"), rate=8000),
    }


def vast() -> bytes:
    """An .npy whose header claims 120 GB."""
    return npy(np.zeros((4, 6), np.float32)).replace(b"(4, 6), }        ", b"(5000000000, 6),}")


AVIF = (
    "c-muNV30{GsVqn=%S>Yc0uY^>nP!-qnF!*)%uOvxWPkw0jFg-rD4U@mGr5ET4e%9YmgIt2j6f`xnUkLk;<$kLj1W;qUIqpx5L+WN"
    "GcOIURtm^TWrFe&%M1*i^K<gSc4cH16cqqz&&-14d>}27SzM3`u}%SsLH1T;f;Dph37*6<L+3_$8IXW*a(+%xUUE(a&|F>ywg#Y("
    "cxFK^%tt_Hu`n_<vjE-1nVXVWBE-POCI8v}|Nn0@I5JF)J}^u09gV#IPv;MV_4!je-s^XZ&)DC2PP@@Vdzb350&XSyTF>c|+;589"
    "3fJTb%@fbpND2+IKJZMQ`Q`I#F=0nd9T%*WS><Uks+pdeDbWi6s+b44"
)
"""A black AVIF of 8192 x 8192 pixels in 782 bytes, deflated, in base 85: to write one takes seconds and 900 MB."""


def avif_bomb(stated: int = 8192) -> bytes:
    """An AVIF of 8192 x 8192 pixels whose container states another side (row 17)."""
    data = bytearray(zlib.decompress(base64.b85decode(AVIF)))
    struct.pack_into(">II", data, data.index(b"ispe") + 8, stated, stated)
    return bytes(data)


def tiff_bomb() -> bytes:
    """A TIFF of 8 x 8 pixels in one tile of 65520 x 65520 (row 17)."""
    black = zlib.compress(bytes(64))
    tags = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: 65_520, 323: 65_520, 324: 8, 325: len(black)}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II\x2a\x00" + struct.pack("<I", 8 + len(black)) + black
    return head + struct.pack("<H", len(tags)) + directory + bytes(4)


def bomb(kind: str, side: int = 13_000) -> bytes:
    """A picture of side x side pixels in a few kilobytes (row 17)."""
    if kind == "GIF":  # the screen's size is two numbers in the header
        out = bytearray(encoded(pixels("gif"), "GIF"))
        struct.pack_into("<HH", out, 6, 65_535, 65_535)
        at = out.index(b"\x2c", 13 + 3 * 2 ** ((out[10] & 7) + 1))  # the frame's too
        struct.pack_into("<HHHH", out, at + 1, 0, 0, 65_535, 65_535)
        return bytes(out)
    if kind == "PNG":  # written by hand: no picture of that size is ever in memory
        raw = zlib.compressobj(9)
        line = bytes(1 + -(-side // 8))
        packed = b"".join(raw.compress(line) for _ in range(side)) + raw.flush()
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in (
                (b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)),
                (b"IDAT", packed),
                (b"IEND", b""),
            )
        )
    out = io.BytesIO()
    options = {"lossless": True, "method": 0, "quality": 0} if kind == "WEBP" else {"compression": "tiff_deflate"}
    Picture.new("RGB" if kind == "WEBP" else "1", (6000, 6000)).save(out, kind, **options)
    return out.getvalue()


def squeezed(path: Path, megabytes: int = 512) -> Path:
    """A .tar.gz of half a megabyte whose one member is half a gigabyte (row 17): a gzip file is one or more streams."""
    info = tarfile.TarInfo("0.text.txt")
    info.size = megabytes << 20
    zeros = gzip.compress(bytes(16 << 20))
    path.write_bytes(gzip.compress(info.tobuf()) + zeros * (megabytes // 16) + gzip.compress(bytes(10240)))
    return path


def npz_bomb() -> bytes:
    """An .npz of 127 KB that holds an array of 128 MB (row 17)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as file:
        header = npy(np.zeros((4, 6), np.float32))[:128].replace(b"(4, 6), }       ", b"(5592405, 6), }")
        file.write(header)
        for _ in range(128):
            file.write(bytes(1 << 20))
    return out.getvalue()


class Runs:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def code(mark: Path) -> dict[str, bytes]:
    """Member name -> what would write ``mark`` if it were opened as that name asks (row 19)."""
    pickled = pickle.dumps(Runs(mark))
    objects = npy(np.array([Runs(mark), None], dtype=object))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3")
    return {
        **{f"points.{suffix}": pickled for suffix in ("pkl", "pickle", "pyd", "joblib", "dill")},
        **{f"image.{suffix}": pickled for suffix in ("pkl", "pyd")},
        "points.pth": zipped.getvalue(),
        "points.pt": zipped.getvalue(),
        "points.npy": objects,
        "pkl": pickled,
        "pyd": pickled,
    }


ESCAPES = [
    "../../outside.text.txt",
    "a/../../outside.text.txt",
    "/tmp/outside.text.txt",
    "C:\\outside.text.txt",
    "C:/outside.text.txt",
    "..\\outside.text.txt",
    "a\x01b.text.txt",
]
"""Names that leave a folder, or that no folder takes (row 18). NUL comes in an extended header: ``escaping``."""


def escaping(path: Path) -> list[str]:
    """A shard of two good samples among members whose names or types leave the folder; returns the hostile names."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:

        def put(name: str, data: bytes, **more: object) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.items():
                setattr(info, key, value)
            out.addfile(info, io.BytesIO(data))

        put("0001.text.txt", b"before\n")
        for name in ESCAPES:
            put(name, b"outside\n")
        put("short.text.txt", b"outside\n", pax_headers={"path": "a\0b.text.txt"})
        for kind, name in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard")):
            put(f"{name}.text.txt", b"", type=kind, linkname="/etc/passwd")
        for kind, name in ((tarfile.CHRTYPE, "char"), (tarfile.BLKTYPE, "block"), (tarfile.FIFOTYPE, "fifo")):
            put(f"{name}.text.txt", b"", type=kind, devmajor=1, devminor=3)
        put("folder.text.txt/", b"", type=tarfile.DIRTYPE)
        put("0002.text.txt", b"after\n")
    return [*ESCAPES, "a\0b.text.txt"]


def write(folder: Path) -> None:
    """Everything as files, to look at."""
    folder.mkdir(parents=True, exist_ok=True)
    shard(folder / "good-000000.tar", {f"{i:05d}": good(i) for i in range(16)})
    for bad in undecodable():
        (folder / f"{bad.name.replace(' ', '-')}.{bad.member}").write_bytes(bad.data)
    for name, array in clouds().items():
        (folder / f"cloud-{name.replace(' ', '-')}.npy").write_bytes(npy(array))
    for name, data in sounds().items():
        (folder / f"sound-{name.replace(' ', '-')}.wav").write_bytes(data)
    for kind in ("PNG", "WEBP", "GIF", "TIFF"):
        (folder / f"bomb.{kind.lower()}").write_bytes(bomb(kind))
    (folder / "bomb.avif").write_bytes(avif_bomb(64))
    (folder / "bomb.tile.tiff").write_bytes(tiff_bomb())
    (folder / "bomb.npz").write_bytes(npz_bomb())
    squeezed(folder / "bomb.tar.gz")
    escaping(folder / "escaping.tar")
    shard(folder / "code.tar", {"0": code(folder / "executed")})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
