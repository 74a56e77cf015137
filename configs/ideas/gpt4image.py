"""A classifier of shapes, with cached text embeddings of descriptions beside the labels and without.

    python configs/ideas/gpt4image.py                # 3 seeds, writes configs/ideas/results/gpt4image.csv
    python configs/ideas/run.py gpt4image --table

The model, terms and optimiser of ``gpt4image.yaml`` on 300 pictures, without augmentation. Accuracy is that of the
nearest class vector, on 400 test pictures.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from described_solids import write
from in_process import parser
from joined import take, train
from run import HERE, Row, table, write_rows

from align.data import Loader, Shards
from align.losses import simplex_vertices

SHARDS = Path("shards/described_solids")
COUNT, STEPS, BATCH = 300, 150, 64
ARMS = {"labels": 0.0, "labels and text": 1.0}  # weight of the distance


def build(seed: int) -> Any:
    """Return what the config makes."""
    torch.manual_seed(seed)
    read = parser().parse_args(["--config", str(HERE / "gpt4image.yaml"), "--run", "runs/x", f"--seed={seed}"])
    return parser().instantiate(read)


def main() -> None:
    torch.set_num_threads(1)
    if not (SHARDS / "manifest.json").is_file():
        write(SHARDS)
    shards = {split: Shards(str(SHARDS / f"{split}-*.tar"), shuffle=False) for split in ("train", "test")}
    readers = build(0).model.preprocess
    learn, test = (
        next(iter(Loader(shards[split], readers, batch=count, train=False)))
        for split, count in (("train", COUNT), ("test", 400))
    )
    classes, pictures = shards["train"].classes, test["image"].values
    assert isinstance(pictures, torch.Tensor)
    right = torch.tensor([classes["shape"].index(label["shape"]) for label in test.labels])
    rows: list[Row] = []
    for seed in (0, 1, 2):
        for arm, weight in ARMS.items():
            begin, made = time.monotonic(), build(seed)
            made.objective.name_classes(classes)
            made.objective.weigh({"classes": 1.0, "described": weight} if weight else {"classes": 1.0})
            draws = torch.Generator().manual_seed(seed)
            some = [torch.randperm(COUNT, generator=draws)[:BATCH] for _ in range(STEPS)]
            batches = (_labelled(learn, picked) for picked in some)
            train(made.model, made.objective, batches, STEPS)
            with torch.no_grad():
                x = torch.cat([made.model.embed_values("image", each) for each in pictures.split(100)])
            found = (x[:, 32:] @ simplex_vertices(len(classes["shape"]), 32).to(x).T).argmax(1)
            accuracy = float((found == right).double().mean())
            rows.append(Row(arm, seed, "shape/image/accuracy", accuracy, round(time.monotonic() - begin, 1)))
            print(rows[-1], flush=True)
    write_rows(HERE / "results" / "gpt4image.csv", rows)
    print("\n".join(["gpt4image", *table(rows)]))


def _labelled(batch: Any, samples: torch.Tensor) -> Any:
    """Return some samples with their labels."""
    some = take(batch, samples)
    some.labels = [batch.labels[i] for i in samples.tolist()]
    return some


if __name__ == "__main__":
    main()
