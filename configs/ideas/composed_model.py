"""The model of composed.yaml, trained on solids one time for each seed and kept in runs/ideas/composed-SEED."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from in_process import train

import align
from align.data import Shards
from align.evaluation import Space
from align.model import JointModel


def load_model(seed: int) -> JointModel:
    """Return the trained model of a seed."""
    folder = Path("runs", "ideas", f"composed-{seed}")
    if not (folder / "model.json").is_file():
        align.save(train("composed", [], seed), folder)
    return align.load(folder)


def open_split(split: str) -> Shards:
    """Return the shards of a split of solids in their order."""
    return Shards(sorted(map(str, Path("shards/solids").glob(f"{split}-*.tar"))), shuffle=False)


@lru_cache(1)
def open_space(seed: int) -> Space:
    """Return the space of a seed's model on the test split, with the training split."""
    return Space(load_model(seed), open_split("test"), train=open_split("train"), draws=0)
