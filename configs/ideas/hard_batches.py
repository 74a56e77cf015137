"""Batches of random samples, against batches of clusters of near captions.

    python configs/ideas/hard_batches.py                  # writes configs/ideas/results/hard_batches.csv, 2 min
    python configs/ideas/run.py hard_batches --table      # prints the figures of that file

A picture and a text tower learn short captions of scenes. After a first half on random batches, "clusters" goes on with
batches of eight clusters of eight samples, whose captions are near each other in the model of the first half. "random"
goes on with random batches. The clusters are those of `align shards order`, and the order that of `Shards(order=...)`.
"""

from __future__ import annotations

import copy
import time

import torch
from run import HERE, Row, table, write_rows
from scene_tensors import Scenes, read_scenes
from stretched import DIM, Pair
from torch import Tensor

from align.curation.mine.clusters import find_clusters
from align.data.order import order, order_clusters
from align.losses import InfoNCE
from align.metrics import ranks, recall_at
from align.seeds import derive

EPOCHS, BATCH, SIZE = 4, 64, 8
"""Epochs of each half."""


def fit(model: Pair, loss: InfoNCE, scenes: Scenes, seed: int, first: int, clusters: Tensor | None) -> None:
    """Train for `EPOCHS` epochs from a first one, in the order of clusters or in a random one."""
    optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()], lr=1e-3, weight_decay=0.05)
    ids = [torch.arange(BATCH)] * 2
    for epoch in range(first, first + EPOCHS):
        if clusters is None:
            positions = order([len(scenes.image)], seed=seed, epoch=epoch)
        else:
            positions = order_clusters(clusters.numpy(), seed=seed, epoch=epoch)
        for chosen in torch.from_numpy(positions).split(BATCH):
            if len(chosen) == BATCH:
                optimizer.zero_grad()
                rows = [model.embed("image", scenes.image[chosen]), model.embed("text", scenes.short[chosen])]
                loss(rows, ids).backward()
                optimizer.step()
                loss.clamp_()


@torch.no_grad()
def measure(model: Pair) -> dict[str, float]:
    """Return recall@1 of captions by pictures, and of pictures by captions."""
    scenes = read_scenes("test")
    scores = model.embed("image", scenes.image) @ model.embed("text", scenes.short).T
    hits = torch.eye(len(scores), dtype=torch.bool)
    return {
        "image_to_text/recall@1": recall_at(ranks(scores, hits), 1),
        "text_to_image/recall@1": recall_at(ranks(scores.T, hits), 1),
    }


def main() -> None:
    rows, scenes = [], read_scenes("train")
    for seed in range(3):
        torch.manual_seed(derive(seed, "weights"))
        begun, loss = Pair(), InfoNCE()
        loss.start(DIM, 2, BATCH)
        fit(begun, loss, scenes, seed, 0, None)
        with torch.no_grad():
            clusters = torch.from_numpy(find_clusters(begun.embed("text", scenes.short), SIZE))
        for arm in ("random", "clusters"):
            model, its_loss, start = copy.deepcopy(begun), copy.deepcopy(loss), time.monotonic()
            fit(model, its_loss, scenes, seed, EPOCHS, clusters if arm == "clusters" else None)
            seconds, found = round(time.monotonic() - start, 1), measure(model)
            rows += [Row(arm, seed, score, value, seconds) for score, value in found.items()]
            print(arm, seed, seconds, found, flush=True)
    write_rows(HERE / "results" / "hard_batches.csv", rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
