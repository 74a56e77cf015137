"""Small real files for the tests of data: PNG, WAV, npy and text, and shards of them with holes."""

from __future__ import annotations

import io
import json
import random
import wave
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from align.curation.members.files import Sampling
from align.curation.members.prepared import Making, store
from align.data import ShardWriter
from align.media.recode import Recode
from align.preprocess import Audio, Bytes, Image, Points


def png(value: int, size: int = 12) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(value).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Picture.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def wav(value: int, frames: int = 800, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.random.default_rng(value).integers(-9000, 9000, frames, dtype=np.int16).tobytes())
    return out.getvalue()


def npy(value: int, points: int = 20) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(value).random((points, 6), dtype=np.float32))
    return out.getvalue()


def readers() -> dict[str, Any]:
    """A preprocess for each modality of the tiny shards."""
    return {
        "audio": Audio(sample_rate=8000, seconds=0.1, n_mels=8),
        "image": Image(size=8),
        "points": Points(points=16),
        "text": Bytes(context=16),
    }


def members(i: int) -> dict[str, bytes]:
    """Everything that sample i could have."""
    about = {"label": {"shape": ["cone", "torus"][i % 2], "size": i % 3}, "group": i // 4, "weight": 1 + i % 2}
    return {
        "image.png": png(i),
        "audio.wav": wav(i),
        "points.npy": npy(i),
        "text.txt": f"thing {i}\nsecond {i}\n".encode(),
        "text.neg.txt": f"not {i}\n".encode(),
        "json": json.dumps(about).encode(),
    }


def holed(i: int, missing: float = 0.4) -> dict[str, bytes]:
    """Sample i with each member missing in this share of the samples; its json is always there."""
    rng = random.Random(i)
    return {name: data for name, data in members(i).items() if name == "json" or rng.random() >= missing}


def write(folder: Path, samples: int, *, per_shard: int = 16, split: str = "train", make: Any = members) -> str:
    """Shards of ``samples`` samples; returns their pattern."""
    with ShardWriter(folder, split, per_shard=per_shard) as writer:
        for i in range(samples):
            writer.write(f"{i:05d}", make(i))
    return str(folder / f"{split}-*.tar")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the indexes, which know the time of their shards."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if not p.name.endswith(".index.json")}


def written_anew(recode: Recode, name: str, data: bytes) -> tuple[str, bytes]:
    """A member's name and bytes in a shard that is built with these settings."""
    return store(Making(None, recode, Sampling(), None), "key", name, data)[:2]
