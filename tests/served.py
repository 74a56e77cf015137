"""A small world behind a real server: four modalities that one can work out by eye, on a port of this machine."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_space import Colours, D, Letters, Pass, npy, write_tar
from torch import nn

from align.embedding import fingerprint
from align.model import JointModel, Tower
from align.preprocess import Audio, Bytes, Image, Points
from align.search.item import Item
from align.search.local import LocalIndex
from align.search.searcher import Searcher
from align.serve.app import make_app
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.server import bind, make_server
from align.serve.service import Service
from align.values import Features, TermInfo

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}
TONES = {"red": 200, "green": 600, "blue": 1200}
RATE = 8000
DEFAULT = Limits()


class Loudness(nn.Module):
    """An encoder of sounds: the energy of eight equal bands of a log-mel."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        bands = values.squeeze(1).exp().mean(dim=2)  # (n, n_mels)
        return Features(bands.unflatten(1, (self.width, -1)).mean(dim=2) * self.gain)


class Tint(nn.Module):
    """An encoder of clouds: their mean colour, then zeros."""

    def __init__(self, width: int = D):
        super().__init__()
        self.width = width
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, values):
        return Features(nn.functional.pad(values[:, :, 3:].mean(dim=1), (0, self.width - 3)) * self.gain)


def model() -> JointModel:
    towers = {
        "image": Tower(Image(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), Colours(), Pass),
        "audio": Tower(Audio(sample_rate=RATE, seconds=0.25, n_mels=16), Loudness(), Pass),
        "points": Tower(Points(64), Tint(), Pass),
        "text": Tower(Bytes(context=32), Letters(), Pass),
    }
    made = JointModel(towers, D).eval()
    made.terms = [TermInfo(("image", "text"), "pairwise", 10.0)]
    return made


def picture(colour, size: int = 16, kind: str = "PNG") -> bytes:
    from PIL import Image as Pil

    out = io.BytesIO()
    Pil.new("RGB", (size, size), colour).save(out, kind)
    return out.getvalue()


def tone(hertz: float, seconds: float = 0.25, kind: str = "FLAC") -> bytes:
    import soundfile

    out = io.BytesIO()
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)
    soundfile.write(out, wave.astype(np.float32), RATE, format=kind)
    return out.getvalue()


def cloud(colour, count: int = 64) -> bytes:
    rng = np.random.default_rng(0)
    return npy(np.concatenate([rng.normal(size=(count, 3)), np.tile(np.array(colour) / 255, (count, 1))], axis=1))


def samples() -> dict[str, dict[str, bytes]]:
    """Nine samples of three colours, each a little darker than the one before."""
    found = {}
    for i in range(9):
        name = list(COLOURS)[i % 3]
        colour = tuple(max(0, x - 10 * i) for x in COLOURS[name])
        found[f"{i:04d}"] = {
            "image.png": picture(colour),
            "audio.flac": tone(TONES[name] + i),
            "points.npy": cloud(colour),
            "text.txt": f"a {name} thing {'bcdefghi'[i % 8]}".encode(),
            "json": json.dumps({"label": name, "year": 2000 + i}).encode(),
        }
    return found


def make_index(folder: Path, made: JointModel) -> LocalIndex:
    """An index of the samples, which lie in a shard."""
    shard = write_tar(folder / "test-000000.tar", samples())
    about = {"dim": D, "model": {"source": str(folder / "tiny"), "sha256": fingerprint(made)}}
    index = LocalIndex.create(folder / "index", about)
    items = [
        Item(key, {"shard": str(shard), "key": key}, [members["text.txt"].decode()], about["label"], about)
        for key, members in samples().items()
        for about in [json.loads(members["json"])]
    ]
    for m, member in {"image": "image.png", "audio": "audio.flac", "points": "points.npy", "text": "text.txt"}.items():
        inputs = [members[member] for members in samples().values()]
        values = made.embed(**{m: inputs})[m]
        index.add(m, values, torch.arange(len(items)), items)
    return index


@contextmanager
def serving(loaded: Loaded, limits: Limits = DEFAULT, **options) -> Iterator[tuple[str, Any]]:
    """A server on a free port, in a thread of this process, as its address and its service."""
    service: Any = Service(loaded, limits)
    sock = bind("127.0.0.1", 0)
    ready = threading.Event()
    server = make_server(make_app(service, **options), service, sock, started=ready.set)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run_on_socket()))
    thread.start()
    assert ready.wait(30)
    service.loop = loop
    service.stop = lambda: loop.call_soon_threadsafe(server.stop)  # as a signal does
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}", service
    finally:
        service.stop()
        thread.join(60)
        loop.close()


def load(folder: Path, limits: Limits = DEFAULT, made: JointModel | None = None) -> Loaded:
    made = made or model()
    loaded = Loaded(made, Searcher(make_index(folder, made), made), limits, name="tiny", sha256=fingerprint(made))
    loaded.decoders.start()
    return loaded
