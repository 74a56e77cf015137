"""Digits of whose captions 40 % name another digit.

    python configs/ideas/noisy_digits.py shards/noisy_digits   # seconds; capro.py does it by itself

The first 4,000 training pictures of digits. The label and the group are those of the caption, as a search word's would
be, so nothing in the shards tells which captions are wrong. Test samples are the clean ones of digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sets import ask_folder, find_shards

from align.data import Shards, ShardWriter

SHARE, COUNT = 0.4, 4
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def read(shards: list[str], share: float) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield keys and samples. A share of the captions names another digit, in the same words."""
    source, draws = Shards(shards, shuffle=False), np.random.default_rng(0)
    for i in range(len(source)):
        sample = source.read(i)[0]
        right = NAMES.index(json.loads(sample["json"])["label"]["digit"])
        name = right if draws.random() >= share else (right + int(draws.integers(1, 10))) % 10
        text = sample["text.txt"].decode().replace(NAMES[right], NAMES[name])
        stated = {"label": {"digit": NAMES[name]}, "group": name}
        members = {"image.png": sample["image.png"], "text.txt": text.encode(), "json": json.dumps(stated).encode()}
        yield sample["__key__"], members


def write(folder: Path) -> None:
    """Write the shards."""
    names = find_shards("digits", "train")[:COUNT]
    with ShardWriter(folder, "train", classes={"digit": NAMES}, licence="CC BY-SA 3.0") as shards:
        for key, members in read(names, SHARE):
            shards.write(key, members)


if __name__ == "__main__":
    write(ask_folder(__doc__))
