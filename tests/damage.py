"""A set of shards that is broken in every way that we know, each kind once, on real bytes from one seed.

``python tests/damage.py FOLDER`` writes it and prints its files. Good samples are photo-like pictures, tones, coloured
clouds and captions that are all different; ``KINDS`` lists what is done to which, and under which reason a check has to
name it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from PIL import Image as Picture

from align.data.archive.build import read_index
from align.data.archive.tar import RECORD, header, padding
from align.files import sha256, write_json

Members = dict[str, bytes]
RATE = 16_000


def rng(*of: int | str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in of])


def pixels(seed: int | str, size: int = 64) -> np.ndarray:
    """(size, size, 3) uint8: soft blobs of colour, as a photo that is seen from afar."""
    draw = rng("image", seed)
    y, x = np.mgrid[:size, :size] / size
    out = np.zeros((size, size, 3)) + draw.random(3) * 120
    for _ in range(9):
        cx, cy, r = draw.random(3)
        out += np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (0.005 + 0.06 * r))[..., None] * draw.normal(0, 110, 3)
    return out.clip(0, 255).astype(np.uint8)


def encoded(array: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    Picture.fromarray(array).save(out, kind, **options)
    return out.getvalue()


def sound(seed: int | str, seconds: float = 0.25) -> np.ndarray:
    """(T,) float64: a tone with overtones that fades."""
    draw = rng("sound", seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tones = sum(a * np.sin(2 * np.pi * f * t) for a, f in zip(draw.random(3), draw.uniform(100, 3000, 3), strict=True))
    return 0.25 * tones * np.exp(-4 * t)


def wav(samples: np.ndarray, rate: int = RATE, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def float_wav(samples: np.ndarray) -> bytes:
    data = samples.astype("<f4").tobytes()
    about = np.array([3, 1], "<u2").tobytes() + np.array([RATE, 4 * RATE], "<u4").tobytes()
    about += np.array([4, 32], "<u2").tobytes()
    body = b"WAVEfmt " + (16).to_bytes(4, "little") + about + b"data" + len(data).to_bytes(4, "little") + data
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def as_flac(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE, format="FLAC")
    return out.getvalue()


def cloud(seed: int | str, points: int = 200) -> np.ndarray:
    """(P, 6) float32: a bent surface with colours."""
    draw = rng("points", seed)
    xyz = draw.normal(size=(points, 3)) * draw.uniform(0.3, 1, 3)
    return np.concatenate([xyz, draw.random((points, 3))], axis=1).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def good(i: int | str) -> Members:
    about = {"label": ["cone", "torus"][zlib.crc32(str(i).encode()) % 2], "group": f"g{i}"}
    return {
        "image.jpg": encoded(pixels(i), quality=90),
        "audio.wav": wav(sound(i)),
        "points.npy": npy(cloud(i)),
        "text.txt": f"a photo of the thing that is called {i}\n".encode(),
        "json": json.dumps(about).encode(),
    }


class Kind(NamedTuple):
    """One kind of damage. key: of the sample; member: of it; reason: what a check must call it."""

    key: str
    reason: str
    member: str
    do: Callable[[Members], None]


KINDS: list[Kind] = []


def put(key: str, reason: str, member: str, data: Callable[[Members], bytes | None]) -> None:
    """Replace (None: remove) a member of the sample ``key``."""

    def do(members: Members) -> None:
        new = data(members)
        members.pop(member, None)
        if new is not None:
            members[member] = new

    KINDS.append(Kind(key, reason, member, do))


def gif(members: Members) -> bytes:
    frames = [Picture.fromarray(pixels(f"frame{i}")) for i in range(3)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def two_pages(seed: str) -> dict[str, Any]:
    return {"save_all": True, "append_images": [Picture.fromarray(pixels(f"{seed} 2"))]}


def deep(seed: str) -> np.ndarray:
    """Grey values from 0 to 255 as uint16."""
    return pixels(seed)[..., 0].astype(np.uint16)


def bomb(members: Members) -> bytes:
    out = io.BytesIO()
    Picture.new("1", (6_000, 6_000)).save(out, "PNG")
    return out.getvalue()


def lying(members: Members) -> bytes:
    return members["points.npy"].replace(b"(200, 6), }      ", b"(2000, 6), }     ")


def vast(members: Members) -> bytes:
    return members["points.npy"].replace(b"(200, 6), }      ", b"(200000000, 6), }")


def scratched(members: Members) -> bytes:
    data = bytearray(encoded(pixels("scratched"), "PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def about(**content: object) -> Callable[[Members], bytes]:
    return lambda members: json.dumps({**json.loads(members["json"]), **content}).encode()


def only_json(members: Members) -> None:
    for name in [name for name in members if name != "json"]:
        del members[name]


def points_like(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Members], bytes]:
    return lambda members: npy(change(np.load(io.BytesIO(members["points.npy"]))))


def spoil(array: np.ndarray, where: object, value: float) -> np.ndarray:
    array = array.copy()
    array[where] = value
    return array


image, audio, points, text = "image.jpg", "audio.wav", "points.npy", "text.txt"
put("image-cut", "image/truncated", image, lambda m: m[image][: len(m[image]) // 2])
put("image-zero", "image/empty", image, lambda m: b"")
put("image-html", "image/not-an-image", image, lambda m: b"<html><body>404 not found</body></html>")
put("image-bomb", "image/too-large", "image.png", bomb)
put("image-scratched", "image/corrupt", "image.png", scratched)
put("image-flat", "image/flat", image, lambda m: encoded(np.full((64, 64, 3), 90, np.uint8)))
put("image-tiny", "image/tiny", image, lambda m: encoded(pixels("tiny", 64)[:20, :20]))
put("image-misnamed", "image/suffix", image, lambda m: encoded(pixels("misnamed"), "PNG"))
put("image-animated", "image/animated", "image.gif", gif)
put("image-strip", "image/narrow", image, lambda m: encoded(np.tile(pixels("strip")[:40], (1, 6, 1))))
put("image-portable", "ignored/image.ppm", "image.ppm", lambda m: encoded(pixels("ppm"), "PPM"))
put("image-heic", "image/format", image, lambda m: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
put("image-pages", "image/pages", "image.tif", lambda m: encoded(pixels("pages"), "TIFF", **two_pages("pages")))
put("image-12-in-16", "image/low-range", "image.png", lambda m: encoded(deep("12") * 16, "PNG"))
put("image-depth", "image/own-range", "image.tiff", lambda m: encoded(deep("depth").astype(np.float32), "TIFF"))
put("image-twice", "image/duplicate", image, lambda m: good("base")[image])
put("image-resized", "image/near-duplicate", image, lambda m: encoded(resized("base"), quality=60))
put("audio-cut", "audio/truncated", audio, lambda m: m[audio][: len(m[audio]) // 2])
put("audio-zero", "audio/empty", audio, lambda m: b"")
put("audio-without-samples", "audio/empty", audio, lambda m: wav(np.zeros(0)))
put("audio-html", "audio/unreadable", audio, lambda m: b"<html>" * 20)
put("audio-nan", "audio/non-finite", audio, lambda m: float_wav(spoil(sound("nan"), 100, np.nan)))
put("audio-huge", "audio/range", audio, lambda m: float_wav(sound("huge") * 1e30))
put("audio-silent", "audio/silent", audio, lambda m: wav(np.zeros(4000)))
put("audio-clipped", "audio/clipped", audio, lambda m: wav(sound("clipped") * 40))
put("audio-click", "audio/short", audio, lambda m: wav(sound("click", 0.01)))
put("audio-slow", "audio/odd-rate", audio, lambda m: wav(sound("slow"), rate=44_100))
put("audio-stereo", "audio/channels", audio, lambda m: wav(np.repeat(sound("stereo"), 2), channels=2))
put("audio-shifted", "audio/offset", audio, lambda m: wav(0.3 * sound("shifted") + 0.4))
put("audio-misnamed", "audio/suffix", audio, lambda m: as_flac(sound("misnamed")))
put("audio-twice", "audio/duplicate", audio, lambda m: good("base")[audio])
put("audio-quieter", "audio/near-duplicate", audio, lambda m: wav(0.4 * sound("base")))
put("points-text", "points/not-npy", points, lambda m: b"0.1 0.2 0.3\n" * 50)
put("points-pickled", "points/dtype", points, lambda m: npy(np.array([{"a": 1}, None], dtype=object)))
put("points-lying", "points/truncated", points, lying)
put("points-vast", "points/too-large", points, vast)
put("points-flat-list", "points/shape", points, points_like(np.ravel))
put("points-none", "points/empty", points, points_like(lambda a: a[:0]))
put("points-nan", "points/non-finite", points, points_like(lambda a: spoil(a, (3, 1), np.nan)))
put("points-far", "points/range", points, points_like(lambda a: spoil(a, (3, 1), 1e30)))
put("points-bytes", "points/colour", points, points_like(lambda a: a * [1, 1, 1, 255, 255, 255]))
put("points-few", "points/few", points, points_like(lambda a: a[:12]))
put("points-one-place", "points/identical", points, points_like(lambda a: a[:1].repeat(200, 0)))
put("points-line", "points/line", points, points_like(lambda a: a[:, [0, 0, 0, 3, 4, 5]]))
put("points-plane", "points/planar", points, points_like(lambda a: a * [1, 1, 0, 1, 1, 1]))
put("points-tiled", "points/repeated", points, points_like(lambda a: np.tile(a[:70], (3, 1))))
put("points-grey", "points/colour-mixed", points, points_like(lambda a: a[:, :3]))
put("points-twice", "points/duplicate", points, lambda m: good("base")[points])
put("points-shuffled", "points/near-duplicate", points, lambda m: npy(cloud("base")[::-1].astype(np.float16)))
put("text-blank", "text/empty", text, lambda m: b" \n\n")
put("text-latin", "text/not-utf8", text, lambda m: "ein schöner Gruß".encode("latin-1"))
put("text-endless", "text/too-large", text, lambda m: b"word " * 30_000)
put("text-long", "text/long", text, lambda m: b" ".join(b"word%d" % i for i in range(120)))
put("text-mojibake", "text/mojibake", text, lambda m: "a caf\ufffd\ufffd by the sea".encode())
put("text-control", "text/control", text, lambda m: b"red \x1b[31m alert \x07")
put("text-twice", "text/duplicate", text, lambda m: good("base")[text].upper())
put("text-negative", "text/negative", "text.neg.txt", lambda m: m[text] + b"\n")
put("text-negative-alone", "text/missing", "text.neg.txt", lambda m: b"a photo of nothing")
put("text-negative-alone", "", text, lambda m: None)
put("json-cut", "json/invalid", "json", lambda m: m["json"][:-5])
put("json-list", "json/not-object", "json", lambda m: b'["cone"]')
put("json-label", "json/label", "json", about(label={"shape": {"of": "cone"}}))
put("json-weight", "json/weight", "json", about(weight=-1))
put("label-absent", "label/missing", "json", about(label=None))
put("label-number", "label/mixed", "json", about(label=0))
put("label-unheard-of", "label/unknown", "json", about(label="dodecahedron"))
put("label-case", "label/alike", "json", about(label="CONE"))
put("label-case", "label/unknown", "json", about(label="CONE"))
put("hole", "audio/missing", audio, lambda m: None)
put("shadow", "sample/shadowed", "image.png", lambda m: encoded(pixels("shadow"), "PNG"))
put("pickle", "member/pickle", "extra.pkl", lambda m: pickle.dumps({"a": 1}))
put("unknown", "member/unknown", "xyz", lambda m: b"who knows")
KINDS.append(Kind("nothing", "sample/no-modality", "", only_json))
for kind in (
    "image-bomb",
    "image-scratched",
    "image-animated",
    "image-portable",
    "image-pages",
    "image-12-in-16",
    "image-depth",
):  # these come instead of the .jpg
    KINDS.append(Kind(kind, "", image, lambda members: members.pop(image, None) and None))


def resized(i: str) -> np.ndarray:
    return np.asarray(Picture.fromarray(pixels(i)).resize((50, 50), Picture.Resampling.BICUBIC))


ARCHIVES: list[tuple[str, str, str]] = [
    ("header.tar", "shard/header", "before-gap"),
    ("header.tar", "sample/cut", "in-gap"),
    ("cut.tar", "shard/truncated", "last"),
    ("cut.tar", "sample/cut", "last"),
    ("endless.tar", "shard/no-end", "endless"),
    ("mixed.tar", "shard/not-adjacent", "torn"),
    ("mixed.tar", "shard/duplicate-member", "double"),
    ("mixed.tar", "shard/unsafe-name", "../../outside.jpg"),
    ("mixed.tar", "shard/other-file", ".DS_Store"),
    ("zero.tar", "shard/empty", ""),
    ("squeezed.tar", "shard/no-tar", ""),
    ("again.tar", "sample/duplicate-key", "base"),
    ("lost.tar", "shard/missing", ""),
    ("changed.tar", "shard/manifest", ""),
    ("flipped.tar", "image/checksum", "flipped"),
]
"""(shard, reason, key) of what is wrong with the files themselves."""

LEAKS = [("leak/exact", "00003"), ("leak/near", "00004"), ("leak/key", "00005"), ("leak/group", "00006")]
"""(reason, key in the set) of what the other set has too."""


def tar(path: Path, files: list[tuple[str, bytes]], *, end: bool = True) -> Path:
    data = b"".join(header(name, len(content)) + content + padding(len(content)) for name, content in files)
    data += bytes(1024) if end else b""
    path.write_bytes(data + (padding(len(data), RECORD) if end else b""))
    return path


def files(key: str, members: Members) -> list[tuple[str, bytes]]:
    return [(f"{key}.{name}", data) for name, data in members.items()]


def write_good(folder: Path, n: int = 24) -> list[Path]:
    """Two shards of good samples, and the one that others are copies of."""
    folder.mkdir(parents=True, exist_ok=True)
    half = [[f"{i:05d}" for i in range(n)][s] for s in (slice(0, n // 2), slice(n // 2, n))]
    half[0].append("base")
    return [
        tar(folder / f"good-{number:06d}.tar", [file for key in keys for file in files(key, good(key))])
        for number, keys in enumerate(half)
    ]


def write_damaged(folder: Path) -> list[Path]:
    """All of ``KINDS`` in one shard, each of ``ARCHIVES`` in its own, behind the good ones; and a manifest."""
    paths = write_good(folder)
    samples: dict[str, Members] = {}
    for kind in KINDS:
        members = samples.setdefault(kind.key, good(kind.key))
        kind.do(members)
    paths.append(tar(folder / "kinds.tar", [file for key, members in samples.items() for file in files(key, members)]))
    paths += _archives(folder)
    manifest = {
        name: {"split": "good", "size": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in ("good-000000.tar", "changed.tar")
    }
    manifest["lost.tar"] = {"split": "good", "size": 10240, "sha256": "0" * 64}
    manifest["changed.tar"]["sha256"] = "0" * 64
    write_json(folder / "manifest.json", {"shards": manifest, "classes": {"label": ["cone", "torus"]}})
    return paths


def _archives(folder: Path) -> list[Path]:
    out = []
    three = [files(key, good(key)) for key in ("before-gap", "in-gap", "after-gap")]
    path = tar(folder / "header.tar", [file for some in three for file in some])
    data = bytearray(path.read_bytes())
    at = sum(512 + len(content) + len(padding(len(content))) for _, content in three[0])
    data[at : at + 100] = b"\xff" * 100
    path.write_bytes(data)
    out.append(path)
    path = tar(folder / "cut.tar", files("first", good("first")) + files("last", good("last"))[::-1])
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"last.image.jpg") + 1000])
    out.append(path)
    out.append(
        tar(folder / "endless.tar", files("whole", good("whole")) + files("endless", good("endless")), end=False)
    )
    mixed = [*files("double", good("double")), ("double.image.jpg", good("other")[image])]
    torn, other = files("torn", good("torn")), files("between", good("between"))
    mixed += [torn[0], *other, *torn[1:], ("../../outside.jpg", b"x"), (".DS_Store", b"x")]
    out.append(tar(folder / "mixed.tar", mixed))
    out.append(folder / "zero.tar")
    out[-1].write_bytes(b"")
    out.append(folder / "squeezed.tar")
    out[-1].write_bytes(gzip.compress(bytes(10240)))
    out.append(tar(folder / "again.tar", files("base", good("base again"))))
    out.append(tar(folder / "changed.tar", files("changed", good("changed"))))
    path = tar(folder / "flipped.tar", files("flipped", good("flipped")))
    read_index(path)
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[800] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    out.append(path)
    return out


def write_other(folder: Path) -> Path:
    """Another set that has something of the good one: a picture, one that looks like it, a key, a group."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = {f"other{i}": good(f"other{i}") for i in range(4)}
    samples["other0"][image] = good("00003")[image]
    samples["other1"][image] = encoded(resized("00004"), quality=70)
    samples["00005"] = samples.pop("other2")
    samples["other3"]["json"] = json.dumps({"label": "cone", "group": "g00006"}).encode()
    return tar(folder / "other.tar", [file for key, members in samples.items() for file in files(key, members)])


if __name__ == "__main__":
    for path in write_damaged(Path(sys.argv[1])):
        print(path)
    print(write_other(Path(sys.argv[1]) / "other"))
