"""A classifier of shapes, with cached text embeddings of descriptions beside the labels and without.

    python configs/ideas/gpt4image.py            # 2 cores, 1 thread: 0.5 min a seed; writes results/gpt4image.csv

The model, terms and optimiser of ``gpt4image.yaml`` on 300 pictures, without augmentation. Accuracy is that of the
nearest class vector, on 400 test pictures.
"""

from __future__ import annotations

from functools import cache

import torch
from compare import Arms, compare
from fit import draw, take, train
from in_process import build
from sets import open_set
from torch import Tensor

from align.data import Loader
from align.losses import simplex_vertices
from align.values import Batch

COUNT, STEPS, BATCH = 300, 150, 64


@cache
def read_split(split: str, count: int) -> Batch:
    """Return the first samples of a split as one batch."""
    readers = build("gpt4image", [], 0)[1].model.preprocess
    return next(iter(Loader(open_set("described_solids", split), readers, batch=count, train=False)))


def learn(weight: float, seed: int) -> dict[str, float]:
    """Train with a weight of the distance to the descriptions, and score."""
    learned, test = read_split("train", COUNT), read_split("test", 400)
    classes = open_set("described_solids", "train").classes
    torch.manual_seed(seed)
    made = build("gpt4image", [], seed)[1]
    made.objective.name_classes(classes)
    made.objective.weigh({"classes": 1.0, "described": weight} if weight else {"classes": 1.0})
    picked = draw(COUNT, BATCH, STEPS, torch.Generator().manual_seed(seed))
    train(made.model, made.objective, (take(learned, some) for some in picked), STEPS)
    pictures = test["image"].values
    assert isinstance(pictures, Tensor)
    rows = torch.cat([made.model.embed_values("image", some) for some in pictures.split(100)])[:, 32:]
    right = torch.tensor([classes["shape"].index(label["shape"]) for label in test.labels])
    chosen = (rows @ simplex_vertices(len(classes["shape"]), 32).to(rows).T).argmax(1)
    return {"shape/image/accuracy": float((chosen == right).double().mean())}


def arms(seed: int) -> Arms:
    return {"labels": lambda: learn(0.0, seed), "labels and text": lambda: learn(1.0, seed)}


if __name__ == "__main__":
    compare(__doc__, gpt4image=arms)
