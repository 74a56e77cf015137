"""The model of composed.yaml, trained on solids one time for each seed and kept in runs/ideas/composed-SEED."""

from __future__ import annotations

from pathlib import Path

from in_process import train

import align
from align.data import Shards
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
