"""A model and shards for the tests of caches: vectors with holes, two captions, hard negatives and a bad member."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from align import Features, JointModel, Tower
from align.data import ShardWriter
from align.preprocess import Array

SAMPLES, PER_SHARD = 26, 10
BROKEN, ALONE, EMPTY = 4, 7, 12  # a bad image; a hard negative without a positive; no row at all


class Spread(nn.Module):
    """(n, 6) to features of width 5, with a token for each of the first numbers that are above -0.5."""

    def __init__(self, width: int = 5):
        super().__init__()
        self.width = width
        self.net = nn.Linear(6, width)

    def forward(self, values: Tensor) -> Features:
        tokens = self.net(values)[:, None] * values[:, :4, None]  # (n, 4, W)
        return Features(self.net(values).tanh(), tokens, values[:, :4] > -0.5)


class Plain(nn.Module):
    """(n, 6) to features of width 5 without tokens."""

    def __init__(self, width: int = 5, gain: float = 1.0):
        super().__init__()
        self.width, self.gain = width, gain
        self.net = nn.Linear(6, width)

    def forward(self, values: Tensor) -> Features:
        return Features(self.net(values) * self.gain)


class Slow(nn.Module):
    """``Plain`` that takes its time for each batch."""

    def __init__(self, width: int = 5, seconds: float = 0.0):
        super().__init__()
        self.width, self.seconds = width, seconds
        self.net = nn.Linear(6, width)

    def forward(self, values: Tensor) -> Features:
        time.sleep(self.seconds)
        if "TINY_NODE" in os.environ:  # Ray's node, for a test that kills it
            import ray

            Path(os.environ["TINY_NODE"]).write_text(ray.get_runtime_context().get_node_id())
        return Features(self.net(values))


def make_slow(seconds: float) -> JointModel:
    """Return a model of images. Its weights do not depend on ``seconds``."""
    torch.manual_seed(0)
    return JointModel({"image": Tower(Array((6,)), Slow(seconds=seconds))}, 3).eval()


def make_model(seed: int = 0, gain: float = 1.0) -> JointModel:
    torch.manual_seed(seed)
    towers = {
        "image": Tower(Array((6,)), Plain(gain=gain)),
        "audio": Tower(Array((6,)), Plain()),
        "text": Tower(Array((6,)), Spread()),
    }
    return JointModel(towers, 3).eval()


def npy(i: int, name: str) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng([i, len(name)]).normal(size=6).astype(np.float32))
    return out.getvalue()


def members(i: int) -> dict[str, bytes]:
    """Members of sample i: text has two rows in every second sample, and a hard negative in every third."""
    about: dict[str, Any] = {"label": {"kind": "ab"[i % 2]}}
    if 10 <= i < 20:
        about |= {"group": i // 2, "weight": 0.5} if i % 2 else {"group": i // 2}
    out = {"json": json.dumps(about).encode()}
    if i == EMPTY:
        return out
    if i != ALONE:
        names = ["text.0.npy", "text.1.npy"] if i % 2 else ["text.npy"]
        out |= {name: npy(i, name) for name in names}
    if i % 3 == 0 or i == ALONE:
        out["text.neg.npy"] = npy(i, "text.neg.npy")
    if i % 4 < 3:
        out["image.npy"] = b"no array" if i == BROKEN else npy(i, "image.npy")
    return out


def write_shards(folder: Path, samples: int = SAMPLES, per_shard: int = PER_SHARD) -> str:
    """Write shards, without any audio, and return their pattern."""
    with ShardWriter(folder, per_shard=per_shard) as writer:
        for i in range(samples):
            writer.write(f"k{i:03d}", members(i))
    return str(folder / "train-*.tar")


def raw_rows(shard: Path, modality: str) -> list[tuple[int, bool, Tensor]]:
    """Return (position, hard negative, (6,) numbers) of the readable rows of a shard, with tarfile alone."""
    keys: list[str] = []
    rows = []
    with tarfile.open(shard) as tar:
        for info in tar:
            key, _, name = info.name.partition(".")
            if key not in keys:
                keys.append(key)
            data = tar.extractfile(info).read()  # pyright: ignore[reportOptionalMemberAccess]
            if name.startswith(modality) and data.startswith(b"\x93NUMPY"):
                negative = ".neg." in name
                rows.append((keys.index(key), negative, name, torch.from_numpy(np.load(io.BytesIO(data)))))
    return [(position, negative, x) for position, negative, _, x in sorted(rows, key=lambda row: row[:3])]
