"""Batches of random samples, against batches of clusters of near captions.

    python configs/ideas/hard_batches.py         # 2 cores, 1 thread: 0.5 min a seed; writes results/hard_batches.csv

A picture and a text tower learn short captions of scenes. After a first half on random batches, "clusters" goes on with
batches of eight clusters of eight samples, whose captions are near each other in the model of the first half. "random"
goes on with random batches. The clusters are those of `align shards order`, and the order that of `Shards(order=...)`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from compare import Arms, compare
from fit import fit
from scene_tensors import read_scenes
from stretched import DIM, Pair
from torch import Tensor

from align.curation.mine.clusters import find_clusters
from align.data.order import order, order_clusters
from align.losses import InfoNCE
from align.metrics import ranks, recall_at
from align.seeds import derive

EPOCHS, BATCH, SIZE = 4, 64, 8
"""Epochs of each half."""


def draw_batches(count: int, seed: int, first: int, clusters: Tensor | None) -> Iterator[Tensor]:
    """Yield the full batches of `EPOCHS` epochs from a first one, in the order of clusters or in a random one."""
    for epoch in range(first, first + EPOCHS):
        if clusters is None:
            positions = order([count], seed=seed, epoch=epoch)
        else:
            positions = order_clusters(clusters.numpy(), seed=seed, epoch=epoch)
        yield from (chosen for chosen in torch.from_numpy(positions).split(BATCH) if len(chosen) == BATCH)


def learn(model: Pair, loss: InfoNCE, seed: int, first: int, clusters: Tensor | None) -> None:
    """Train for `EPOCHS` epochs."""
    scenes, ids = read_scenes("train"), torch.arange(BATCH)

    def compute(chosen: Tensor) -> Tensor:
        rows = [model.embed("image", scenes.image[chosen]), model.embed("text", scenes.short[chosen])]
        return loss(rows, [ids, ids])

    fit(map(compute, draw_batches(len(scenes.image), seed, first, clusters)), [model, loss], 1e-3, decay=0.05)


@torch.no_grad()
def score(model: Pair) -> dict[str, float]:
    """Return recall@1 of captions by pictures, and of pictures by captions."""
    scenes = read_scenes("test")
    scores = model.embed("image", scenes.image) @ model.embed("text", scenes.short).T
    hits = torch.eye(len(scores), dtype=torch.bool)
    return {
        "image_to_text/recall@1": recall_at(ranks(scores, hits), 1),
        "text_to_image/recall@1": recall_at(ranks(scores.T, hits), 1),
    }


def arms(seed: int) -> Arms:
    torch.manual_seed(derive(seed, "weights"))
    begun, loss = Pair(), InfoNCE()
    loss.start(DIM, 2, BATCH)
    learn(begun, loss, seed, 0, None)
    with torch.no_grad():
        clusters = torch.from_numpy(find_clusters(begun.embed("text", read_scenes("train").short), SIZE))

    def go_on(clusters: Tensor | None) -> dict[str, float]:
        model, its_loss = copy.deepcopy(begun), copy.deepcopy(loss)
        learn(model, its_loss, seed, EPOCHS, clusters)
        return score(model)

    return {"random": lambda: go_on(None), "clusters": lambda: go_on(clusters)}


if __name__ == "__main__":
    compare(__doc__, hard_batches=arms)
