"""Arms of an idea about heads, trained in one process on rows that are read a single time.

    python configs/ideas/heads.py NAME ...          # trains, evaluates, writes configs/ideas/results/NAME.csv

The config and the arms are those of ``run.py``. Training differs from ``align train`` in three ways that save minutes:
no augmentation, AdamW with a cosine to zero and a tenth of the steps to warm up, and no checkpoint.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from run import HERE, SETS, Row, read_arms, table, write_rows

import align
from align.commands.config import make_parser
from align.data import Loader, Shards
from align.values import Batch


def read_all(shards: str, preprocess: dict[str, Any]) -> Batch:
    """Return all samples of the training split as one batch."""
    source = Shards(f"shards/{shards}/train-*.tar", shuffle=False)
    return next(iter(Loader(source, preprocess, batch=len(source), workers=0, train=False)))


def choose(batch: Batch, places: torch.Tensor) -> Batch:
    """Return the samples at places (b,), numbered in their order. Each row goes with its sample."""
    number = torch.full((batch.size,), -1)
    number[places] = torch.arange(len(places))
    rows = {}
    for m, one in batch.items():
        sample = number[one.sample]
        order = sample.argsort(stable=True)[int((sample < 0).sum()) :]
        rows[m] = one._replace(values=one.values[order], sample=sample[order])
    at = places.tolist()
    group = None if batch.group is None else batch.group[places]
    return Batch(rows, [batch.ids[i] for i in at], batch.position[places], group=group)


def train(made: Any, batch: Batch, size: int, steps: int, lr: float, decay: float, seed: int) -> None:
    """Train the model and the objective of a config."""
    model, objective = made.model, made.objective
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (0.1 * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    draw = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        few = choose(batch, torch.randperm(batch.size, generator=draw)[:size])
        loss, _ = objective(model(few, tokens=objective.tokens), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        objective.clamp_()
    model.terms = objective.infos()


def measure(name: str, arms: dict[str, Any], arm: str, seed: int, kept: dict[str, Batch]) -> Iterator[Row]:
    """Train one arm with one seed, and yield its scores on the test split."""
    torch.manual_seed(seed)
    parser = make_parser()
    options = ["--config", str(HERE / f"{name}.yaml"), "--run", "runs/x", f"--seed={seed}"]
    asked = parser.parse_args([*options, *map(str, arms["arms"][arm])])
    made = parser.instantiate(asked)
    reads = str({m: vars(p) for m, p in made.model.preprocess.items()})
    batch = kept.get(reads) or read_all(arms["shards"], made.model.preprocess)
    kept[reads] = batch
    begin = time.monotonic()
    train(made, batch, asked.data.batch, asked.trainer.max_steps, asked.optim.lr, asked.optim.weight_decay, seed)
    seconds = time.monotonic() - begin
    given = dict(zip(arms["evaluate"][::2], arms["evaluate"][1::2], strict=True))
    results = align.evaluate(
        made.model.eval(),
        Shards(f"shards/{arms['shards']}/test-*.tar", shuffle=False),
        with_=given["--with"].split(","),
        hit=given.get("--hit"),
        draws=0,
    )
    for score in arms["scores"]:
        if score in results.scores:
            yield Row(arm, seed, score, results.scores[score], round(seconds, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names:
        arms, kept, rows = read_arms(name), {}, []
        if not Path("shards", arms["shards"], "manifest.json").is_file():
            SETS[arms["shards"]](Path("shards", arms["shards"]))
        for seed in asked.seeds:
            for arm in arms["arms"]:
                rows += measure(name, arms, arm, seed, kept)
                print(f"{name} {arm} {seed}: {rows[-1].seconds} s", flush=True)
        write_rows(HERE / "results" / f"{name}.csv", rows)
        print("\n".join([name, *table(rows)]))


if __name__ == "__main__":
    main()
