"""Solids with one vector a picture for the words about it: cached text embeddings of descriptions.

    python configs/ideas/described_solids.py shards/described_solids   # seconds; gpt4image.py does it by itself

A vector is the sum of a random vector for each word of the four attributes, normalised. It stands for the embedding of
a frozen text model, which knows more of words than that they differ. Test samples have no vector.
"""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import numpy as np
from sets import ask_folder, open_set

from align.data import ShardWriter
from align.quickstart.world import ATTRIBUTES

WIDTH = 32


def describe(label: dict[str, str]) -> np.ndarray:
    """Return (WIDTH,), the unit vector of the words of a label."""
    words = [np.random.default_rng(zlib.crc32(word.encode())).standard_normal(WIDTH) for word in label.values()]
    total = np.sum(words, axis=0)
    return (total / np.linalg.norm(total)).astype(np.float32)


def write(folder: Path) -> None:
    """Write the shards."""
    for split in ("train", "test"):
        source = open_set("solids", split)
        with ShardWriter(folder, split, classes=ATTRIBUTES, licence="CC0-1.0") as shards:
            for i in range(len(source)):
                sample = source.read(i)[0]
                label = json.loads(sample["json"])["label"]
                members = {"image.png": sample["image.png"], "json": json.dumps({"label": label}).encode()}
                if split == "train":
                    np.save(content := io.BytesIO(), describe(label))
                    members["described.npy"] = content.getvalue()
                shards.write(f"{split}-{i:06d}", members)


if __name__ == "__main__":
    write(ask_folder(__doc__))
