"""Models of a config trained from memory: the samples are read once, as evaluation reads them, for all arms and seeds.

A step costs the arithmetic of the towers and losses alone. There is no augmentation, so a score is not that of `align
train`. prototypes.py, layers.py and experts.py use it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from run import HERE, SETS, Row, table, write_rows
from torch import Tensor

from align.commands.config import make_parser
from align.data import Loader, Shards
from align.model import JointModel
from align.objective import Objective
from align.values import Batch, Rows

RATE, BATCH = 3e-3, 64


def build(name: str, options: Sequence[str], seed: int) -> tuple[JointModel, Objective, Any]:
    """Return the model and the objective of a config with an arm's options, and the options."""
    read = parser().parse_args(["--config", str(HERE / f"{name}.yaml"), "--run", "runs/x", f"--seed={seed}", *options])
    torch.manual_seed(seed)
    made = parser().instantiate(read)
    return made.model, made.objective, read


@cache
def parser() -> Any:
    """Return the parser of a config."""
    return make_parser()


def open_split(data: str, split: str) -> Shards:
    """Return a split of a set of `SETS`, which is made where it is not there yet."""
    folder = Path("shards", data)
    if not (folder / "manifest.json").is_file():
        SETS[data](folder)
    return Shards([str(path) for path in sorted(folder.glob(f"{split}-*.tar"))], shuffle=False)


def read_split(model: JointModel, data: str, split: str) -> Batch:
    """Return all samples of a split as one batch."""
    shards = open_split(data, split)
    return next(iter(Loader(shards, model.preprocess, batch=len(shards), workers=0, train=False)))


def take(data: Batch, chosen: Tensor) -> Batch:
    """Return some samples with all of their rows."""
    place = torch.full((data.size,), -1).index_put((chosen,), torch.arange(len(chosen)))
    rows = {}
    for m, part in data.items():
        assert isinstance(part.values, Tensor)
        keep = ((part.sample >= 0) & (place[part.sample] >= 0)).nonzero()[:, 0]
        keep = keep[place[part.sample[keep]].argsort(stable=True)]
        rows[m] = Rows(part.values[keep], place[part.sample[keep]])
    labels, ids = ([given[i] for i in chosen.tolist()] for given in (data.labels, data.ids))
    return Batch(rows, ids, data.position[chosen], labels)


def train(model: JointModel, objective: Objective, data: Batch, steps: int, seed: int) -> float:
    """Train a model for some steps, and return the seconds."""
    begin, draw = time.monotonic(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=RATE, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    objective.train()
    for _ in range(steps):
        batch = take(data, torch.randperm(data.size, generator=draw)[:BATCH])
        loss, _ = objective(model(batch, tokens=objective.tokens), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *objective.parameters()], 1.0)
        optimizer.step()
        rates.step()
        objective.clamp_()
    model.terms = objective.infos()
    model.eval()
    objective.eval()
    return time.monotonic() - begin


@torch.no_grad()
def embed(model: JointModel, modality: str, data: Batch) -> Tensor:
    """Return (n, D), the embeddings of a modality's rows."""
    values = data[modality].values
    assert isinstance(values, Tensor)
    return torch.cat([model.embed_values(modality, part) for part in values.split(256)])


def compare(
    name: str,
    sets: str,
    arms: Mapping[str, Sequence[str]],
    score: Callable[[JointModel, Batch, Batch], dict[str, float]],
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Row]:
    """Return the scores of all arms and seeds, printed and written to results/NAME.csv after each seed.

    score: of a trained model, its training split and its test split.
    """
    model, _, _ = build(name, [], 0)
    fitted, tested = (read_split(model, sets, split) for split in ("train", "test"))
    classes, rows = open_split(sets, "train").classes, []
    for seed in seeds:
        for arm, options in arms.items():
            model, objective, read = build(name, options, seed)
            objective.name_classes(classes)
            seconds = train(model, objective, fitted, read.trainer.max_steps, seed)
            found = score(model, fitted, tested)
            rows += [Row(arm, seed, key, value, round(seconds, 1)) for key, value in found.items()]
        write_rows(HERE / "results" / f"{name}.csv", rows)
        print("\n".join([f"{name}, {seed + 1} seeds", *table(rows)]), flush=True)
    return rows
