"""A digits model and its successor: trained apart, with an orthogonal map, or with a fixed simplex.

    python configs/ideas/compatible.py            # writes results/orthogonal.csv and results/simplex.csv
    python configs/ideas/run.py orthogonal simplex --table

The models and their terms are those of orthogonal.yaml and simplex.yaml. The earlier model sees 1,000 digits in 40 steps,
the later one 6,000 in 200, without augmentation and from memory. Scores are those of ``align evaluate --with
compatibility`` on 1,000 test digits, for pictures that ask for pictures of the same digit.

Arms of orthogonal: ``apart`` (the later model without a term for the earlier one) and ``orthogonal``. Arms of simplex:
``apart`` and ``simplex``, where both models are trained with the fixed classifier.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from run import HERE, Row, table, write_rows
from torch import Tensor

from align.commands.config import make_parser
from align.data import Loader, Shards
from align.evaluation import Compatibility, Space
from align.model import JointModel
from align.objective import Objective
from align.values import Batch, Rows

PART = "compatibility/image_to_image"
SCORES = [*(f"{PART}/{roles}/map" for roles in ("old_to_old", "new_to_old", "new_to_new")), f"{PART}/criterion"]
OLD, NEW = (1000, 40), (6000, 200)  # samples and steps
BATCH, RATE = 128, 3e-3


def build(config: str, seed: int) -> tuple[JointModel, Objective]:
    """Return the model and the objective of a config, with weights of a seed. The classes are those of the digits."""
    parser = make_parser()
    torch.manual_seed(seed)
    made = parser.instantiate(parser.parse_args(["--config", str(HERE / f"{config}.yaml"), "--run", "runs/x"]))
    made.objective.name_classes(Shards("shards/digits/train-000000.tar").classes)
    return made.model, made.objective


def read(model: JointModel, urls: str) -> Batch:
    """Return all samples of some shards as one batch, as evaluation reads them."""
    reading = Shards(urls, shuffle=False)
    readers = {m: model.preprocess[m] for m in ("image", "text")}
    return next(iter(Loader(reading, readers, batch=len(reading), workers=0, train=False)))


def train(model: JointModel, objective: Objective, data: Batch, length: tuple[int, int], seed: int) -> float:
    """Train on the first samples of a batch, and return the seconds."""
    begin, (samples, steps) = time.monotonic(), length
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(steps):
        chosen = torch.randperm(samples, generator=draw)[:BATCH]
        loss, _ = objective(model(take(data, chosen)), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        objective.clamp_()
    model.eval()
    return time.monotonic() - begin


def take(data: Batch, chosen: Tensor) -> Batch:
    """Return some samples, each of which has one row of every modality."""
    rows = {
        m: Rows(part.values[chosen], torch.arange(len(chosen)))
        for m, part in data.items()
        if torch.is_tensor(part.values)
    }
    labels, ids = ([given[i] for i in chosen.tolist()] for given in (data.labels, data.ids))
    assert data.group is not None
    return Batch(rows, ids, data.position[chosen], labels, group=data.group[chosen])


def with_old(data: Batch, old: JointModel) -> Batch:
    """Return a batch with the earlier model's embeddings as two more modalities, as a cache gives them."""
    rows: Mapping[str, Rows] = {
        f"old_{m}": rows._replace(values=torch.cat([old.embed_values(m, part) for part in rows.values.split(500)]))
        for m, rows in data.items()
        if torch.is_tensor(rows.values)
    }
    return replace(data, rows={**data.rows, **rows})


def measure(arm: str, seed: int, seconds: float, new: JointModel, old: JointModel) -> list[Row]:
    """Return the scores of a model and its successor."""
    space = Space(new, Shards("shards/digits/test-000000.tar", shuffle=False), draws=0)
    scores = Compatibility(old).run(space).scores
    return [Row(arm, seed, score, scores[score], round(seconds, 1)) for score in SCORES]


def compare(seed: int, data: Batch) -> dict[str, list[Row]]:
    """Return name of the comparison -> its rows for one seed. The later models begin with weights of another seed."""
    later = seed + 100
    old, objective = build("simplex", seed)
    plain = {"pairs": 1.0}
    objective.weigh(plain)
    train(old, objective, data, OLD, seed)
    new, objective = build("simplex", later)
    objective.weigh(plain)
    apart = measure("apart", seed, train(new, objective, data, NEW, later), new, old)
    new, objective = build("orthogonal", later)
    orthogonal = measure("orthogonal", seed, train(new, objective, with_old(data, old), NEW, later), new, old)
    old, objective = build("simplex", seed)
    train(old, objective, data, OLD, seed)
    new, objective = build("simplex", later)
    simplex = measure("simplex", seed, train(new, objective, data, NEW, later), new, old)
    return {"orthogonal": [*apart, *orthogonal], "simplex": [*apart, *simplex]}


if __name__ == "__main__":
    data = read(build("simplex", 0)[0], "shards/digits/train-00000[0-5].tar")
    found: dict[str, list[Row]] = {"orthogonal": [], "simplex": []}
    for seed in (0, 1, 2):
        for name, rows in compare(seed, data).items():
            found[name] += rows
            print("\n".join([f"{name}, {seed + 1} seeds", *table(found[name])]), flush=True)
    for name, rows in found.items():
        write_rows(HERE / "results" / f"{name}.csv", rows)
