"""Small models trained from plain tensors, for ideas that need no augmentation: a run takes a few seconds.

prototypes.py, layers.py and experts.py use them, each with arms of its own.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from fit import draw, take, train
from PIL import Image
from sets import open_set
from torch import Tensor

from align import JointModel, Objective
from align.values import Batch, Rows

RATE, BATCH = 3e-3, 64


@cache
def read(data: str, split: str, size: int, most: int = 2000) -> tuple[Tensor, list[dict[str, Any]]]:
    """Return pictures (n, 3, size, size) uint8 of the first samples of a split, and their labels."""
    shards, pictures, labels = open_set(data, split), [], []
    for i in range(min(len(shards), most)):
        sample = shards.read(i)[0]
        picture = Image.open(io.BytesIO(next(x for name, x in sample.items() if name.startswith("image."))))
        raw = torch.frombuffer(bytearray(picture.convert("RGB").resize((size, size)).tobytes()), dtype=torch.uint8)
        pictures.append(raw.view(size, size, 3).permute(2, 0, 1))
        labels.append(json.loads(sample["json"])["label"])
    return torch.stack(pictures), labels


def words_of(labels: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Tensor:
    """Return (n, words) float32: 1 for each name that a label holds in any attribute."""
    held = [{v for some in label.values() for v in (some if isinstance(some, list) else [some])} for label in labels]
    return torch.tensor([[float(name in some) for name in names] for some in held])


def join(labels: Sequence[Any], **rows: Tensor) -> Batch:
    """Return one row of every modality for each sample."""
    at = torch.arange(len(labels))
    return Batch({m: Rows(x, at) for m, x in rows.items()}, [str(i) for i in at.tolist()], at, [*labels])


def learn(model: JointModel, objective: Objective, data: Batch, steps: int, seed: int) -> None:
    """Train a model for some steps on samples that are drawn anew in each."""
    draws = torch.Generator().manual_seed(seed)
    batches = (take(data, some) for some in draw(data.size, BATCH, steps, draws))
    train(model, objective, batches, steps, RATE, generator=draws, decay=0.05, clip=1.0)


def embed(model: JointModel, modality: str, data: Batch) -> Tensor:
    """Return (n, D), the embeddings of a modality's rows."""
    return model.embed_values(modality, data[modality].values)


def accuracy(rows: Tensor, classes: Tensor, right: Tensor) -> float:
    """Return the share of rows (n, D) whose nearest class (C, D) is the right one, (n,)."""
    a, b = (F.normalize(x, dim=1) for x in (rows, classes))
    return float(((a @ b.T).argmax(1) == right).double().mean())
