"""Small models trained from plain tensors, for ideas that need no augmentation: a run takes a few seconds.

`scenes_of` reads pictures of scenes and their captions as words, `digits_of` and `solids_of` pictures and their class.
prototypes.py, layers.py and experts.py use them, each with arms of its own.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from run import HERE, SETS, Row, table, write_rows
from torch import Tensor

from align import JointModel, Objective
from align.data import Shards
from align.values import Batch, Rows

RATE, BATCH = 3e-3, 64


def read(data: str, split: str, size: int, most: int = 2000) -> tuple[Tensor, list[dict[str, Any]]]:
    """Return pictures (n, 3, size, size) uint8 of the first samples of a split, and their labels."""
    folder = Path("shards", data)
    if not (folder / "manifest.json").is_file():
        SETS[data](folder)
    shards = Shards([str(path) for path in sorted(folder.glob(f"{split}-*.tar"))], shuffle=False)
    pictures, labels = [], []
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


def take(data: Batch, chosen: Tensor) -> Batch:
    """Return some samples, each of which has one row of every modality."""
    picked = {m: rows.values[chosen] for m, rows in data.items() if isinstance(rows.values, Tensor)}
    return join([data.labels[i] for i in chosen.tolist()], **picked)


def train(model: JointModel, objective: Objective, data: Batch, steps: int, seed: int) -> None:
    """Train a model for some steps."""
    draw, parts = torch.Generator().manual_seed(seed), [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parts, lr=RATE, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(steps):
        batch = take(data, torch.randperm(data.size, generator=draw)[:BATCH])
        loss, _ = objective(model(batch, tokens=objective.tokens), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts, 1.0)
        optimizer.step()
        rates.step()
        objective.clamp_()
    model.eval()


def embed(model: JointModel, modality: str, data: Batch) -> Tensor:
    """Return (n, D), the embeddings of a modality's rows."""
    return model.embed_values(modality, data[modality].values)


def accuracy(rows: Tensor, classes: Tensor, right: Tensor) -> float:
    """Return the share of rows (n, D) whose nearest class (C, D) is the right one, (n,)."""
    a, b = (F.normalize(x, dim=1) for x in (rows, classes))
    return float(((a @ b.T).argmax(1) == right).double().mean())


def compare(
    name: str, arms: Mapping[str, Callable[[int], Mapping[str, float]]], seeds: Sequence[int] = (0, 1, 2)
) -> None:
    """Run every arm with every seed, and write and print the scores after each seed.

    arms: name -> a function of a seed, which trains and returns scores.
    """
    rows = []
    for seed in seeds:
        for arm, run in arms.items():
            torch.manual_seed(seed)
            begin = time.monotonic()
            found = run(seed)
            rows += [Row(arm, seed, key, value, round(time.monotonic() - begin, 1)) for key, value in found.items()]
            print(name, arm, seed, file=sys.stderr, flush=True)
        write_rows(HERE / "results" / f"{name}.csv", rows)
        print("\n".join([f"{name}, {seed + 1} seeds", *table(rows)]), flush=True)
