"""Centroids of heads, filled from the cached columns of the training data before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.data.columns import Columns
from align.data.mixing.sources import Sources
from align.heads import Centered
from align.model import JointModel
from align.model.inside import unwrap

PIECE = 4096  # samples that are read at a time


@torch.no_grad()
def fill_centroids(model: JointModel, train: Any) -> list[str]:
    """Fill the centroids that are empty with the mean of the training rows, and return their towers.

    A head from ``--start`` or ``align bind`` has its centroid already. train: as ``AlignData.open`` gives it. The rows
    are those of the columns of the modality, in all sources, hard negatives left out, through the tower's encoder.

    Raises ValueError where a centroid is empty and no column has rows for it.
    """
    sources = list(train.sources.values()) if isinstance(train, Sources) else [train]
    filled = []
    for name in model.modalities:
        tower = unwrap(model.towers[name])
        if not isinstance(tower.head, Centered) or int(tower.head.count):
            continue
        given = [x for x in sources if isinstance(x, Columns) and name in x.columns]
        if not any(x.modalities.get(name) for x in given):
            raise ValueError(
                f"tower {name!r}: the head subtracts a centroid, and data.train has no column of {name} to compute it "
                f"from; name one (columns: {{{name}: CACHE/SET:{name}}}), or start from a model that has a centroid"
            )
        tower.head.fit_(row for columns in given for row in _read(tower, columns, name))
        filled.append(name)
    return filled


def _read(tower: Any, columns: Columns, name: str) -> Iterator[Tensor]:
    """Yield pooled features (n, W) of a column's rows, a piece at a time."""
    for piece in np.array_split(np.arange(len(columns)), max(1, -(-len(columns) // PIECE))):
        kept = columns.find_rows(name, piece).drop_negatives().values
        device = tower.head.centroid.device
        moved = {k: x.to(device) for k, x in kept.items()} if isinstance(kept, dict) else kept.to(device)
        yield tower.features(moved).pooled
