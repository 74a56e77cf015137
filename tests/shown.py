"""A world for the tests of the search page: pictures, sounds, clouds, depth maps, tracks of a user's own, and words."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from served import COLOURS, TONES, cloud, model, picture, tone
from tiny_space import Colours, D, Pass, Straight, write_tar

from align.embedding import fingerprint
from align.media.medium import Face, Medium
from align.model import JointModel, Tower
from align.preprocess import Array, Image
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.searcher import Searcher
from align.serve.limits import Limits
from align.serve.loaded import Loaded

MESH = b"""ply
format ascii 1.0
element vertex 4
property float x
property float y
property float z
element face 4
property list uchar int vertex_indices
end_header
0 0 0
1 0 0
0 1 0
0 0 1
3 0 1 2
3 0 1 3
3 0 2 3
3 1 2 3
"""
SAMPLES = 30


class Track(Medium):
    """Tracks: eight numbers in words, drawn as a line."""

    name = "track"
    suffixes = ("trk",)

    def read(self, source: bytes | Path) -> Any:
        data = source.read_bytes() if isinstance(source, Path) else source
        return np.array(data.split(), np.float32)

    def face(self, data: bytes, suffix: str) -> Face | None:
        return Face("drawing", [list(enumerate(self.read(data).tolist()))])


class Tracks(Array):
    """Rows of tracks."""

    suffixes = ("trk",)
    medium = Track()

    def decode(self, source: Any):
        return torch.tensor(self.medium.read(source))


def wide_model() -> JointModel:
    """The server's model of the tests with depth maps, which are pictures too, and tracks."""
    towers: dict[str, Any] = {m: model().towers[m] for m in model().modalities}
    towers["depth"] = Tower(Image(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), Colours(), Pass)
    towers["track"] = Tower(Tracks([D]), Straight(), Pass)
    made = JointModel(towers, D).eval()
    made.terms = model().terms
    return made


def deep_picture() -> bytes:
    """A grey picture of 16 bits, as TIFF."""
    from PIL import Image as Pil

    out = io.BytesIO()
    Pil.fromarray(np.linspace(0, 60000, 256).reshape(16, 16).astype(np.uint16)).save(out, "TIFF")
    return out.getvalue()


def samples() -> dict[str, dict[str, bytes]]:
    """Samples of three colours, each darker than the one before. The last has no words and no label."""
    found = {}
    for i in range(SAMPLES):
        name = list(COLOURS)[i % 3]
        colour = tuple(max(0, x - 5 * i) for x in COLOURS[name])
        about = {"label": name, "year": 1990 + i, "tags": ["even" if i % 2 == 0 else "odd"], "night": i % 5 == 0}
        found[f"{i:04d}"] = {
            "image.png": picture(colour, 64),
            "audio.flac": tone(TONES[name] + i),
            "points.npy": cloud(colour),
            "depth.png": picture(colour[::-1]),
            "track.trk": " ".join(str((i + j) % 8) for j in range(8)).encode(),
            "text.txt": f"a {name} thing {'bcdefghi'[i % 8]}".encode(),
            "json": json.dumps(about).encode(),
        }
    last = found[f"{SAMPLES - 1:04d}"]
    del last["text.txt"], last["json"]
    return found


def load(folder: Path) -> Loaded:
    """The model with an index of the samples and of one more, which lies in files: TIFF, AIFF and a mesh."""
    made = wide_model()
    shard = write_tar(folder / "test-000000.tar", samples())
    index = LocalIndex.create(folder / "shelf", {"dim": D, "model": {"source": "tiny", "sha256": fingerprint(made)}})
    rows: dict[str, list[tuple[int, Any]]] = {m: [] for m in made.modalities}
    items = []
    for i, (key, members) in enumerate(samples().items()):
        about = json.loads(members.get("json", b"{}"))
        captions = [members["text.txt"].decode()] if "text.txt" in members else []
        items.append(Item(key, {"shard": str(shard), "key": key}, captions, about.get("label"), about))
        for name, content in members.items():
            if (m := name.split(".")[0]) in rows:
                rows[m].append((i, content.decode() if m == "text" else content))
    odd = {"image.tif": deep_picture(), "audio.wav": tone(900, kind="AIFF"), "points.ply": MESH}
    paths = {name: folder / "files" / f"odd.{name.split('.')[1]}" for name in odd}
    for name, path in paths.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(odd[name])
    source = {"file": str(paths["image.tif"]), "members": {name: str(path) for name, path in paths.items()}}
    items.append(Item("odd", source, ["an odd one"], "odd", {"label": "odd"}))
    plain = {"image": picture((99, 99, 99)), "audio": tone(900), "points": cloud((99, 99, 99))}
    for m, content in plain.items():
        rows[m].append((SAMPLES, content))
    for m, have in rows.items():
        values = made.embed(**{m: [content for _, content in have]})[m]
        index.add(m, values, torch.tensor([i for i, _ in have]), items)
    limits = Limits(decoders=1)
    loaded = Loaded(made, Searcher(index, made), limits, name="tiny", sha256=fingerprint(made))
    loaded.decoders.start()
    return loaded
