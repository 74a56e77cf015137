"""A tiny world in caches: two models over shards of pictures, sounds and texts that share a class and a number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from tiny_space import npy, write_tar

from align.checkpoint import load, save
from align.embedding.features import write_cache
from align.encoders import TransformerText, Vector
from align.heads import Linear
from align.model import JointModel, Tower
from align.preprocess import Array, Bytes

words = ["red", "blue", "green", "round", "long", "small", "loud", "soft"]


def made_model(folder: Path, seed: int = 0) -> Path:
    """A model folder with random towers of image, audio and text."""
    torch.manual_seed(seed)
    towers = {
        "image": Tower(Array([8]), Vector(8, width=24, hidden=32, depth=2), Linear),
        "audio": Tower(Array([8]), Vector(8, width=20, hidden=32, depth=2), Linear),
        "text": Tower(Bytes(24), TransformerText(259, 24, width=32, depth=1, heads=2), Linear),
    }
    return save(JointModel(towers, 16).eval(), folder)


def made_shards(folder: Path, n: int = 160, shards: int = 2, group: bool = False, seed: int = 0) -> list[str]:
    """Shards of n samples: three of eight words, and the same as numbers with noise. Sample 1 has no picture, sample 2
    two texts."""
    rng = np.random.default_rng(seed)
    paths, each = [], -(-n // shards)
    for s in range(shards):
        samples = {}
        for i in range(s * each, min(n, (s + 1) * each)):
            chosen = sorted(rng.choice(8, 3, replace=False))
            hot = np.isin(np.arange(8), chosen).astype(np.float32)
            about = {"group": int(sum(2**c for c in chosen))} if group else {}
            members = {
                "image.npy": npy(hot + 0.05 * rng.normal(size=8)),
                "audio.npy": npy(hot + 0.05 * rng.normal(size=8)),
                "text.txt": " ".join(words[c] for c in chosen).encode(),
                "json": json.dumps(about).encode(),
            }
            if i == 1:
                del members["image.npy"]
            if i == 2:
                members["text.1.txt"] = b"blue"
            samples[f"s{i:05d}"] = members
        paths.append(str(write_tar(folder / f"part-{s:06d}.tar", samples)))
    return paths


def made_cache(folder: Path, model: Path, shards: list[str], name: str = "net", **options) -> Path:
    """A cache with one set, float32 features by default."""
    write_cache(load(model), shards, folder, name=name, source=str(model), dtype="float32", **options)
    return folder
