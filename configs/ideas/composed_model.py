"""The model of composed.yaml, trained on solids one time for each seed and kept in runs/ideas/composed-SEED."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from in_process import train
from sets import open_set

import align
from align.evaluation import Space
from align.model import JointModel


def load_model(seed: int) -> JointModel:
    """Return the trained model of a seed."""
    folder = Path("runs", "ideas", f"composed-{seed}")
    if not (folder / "model.json").is_file():
        align.save(train("composed", [], seed), folder)
    return align.load(folder)


@lru_cache(1)
def open_space(seed: int) -> Space:
    """Return the space of a seed's model on the test split, with the training split."""
    return Space(load_model(seed), open_set("solids", "test"), train=open_set("solids", "train"), draws=0)
