"""A digits model and its successor: trained apart, with an orthogonal map, or with a fixed simplex.

    python configs/ideas/compatible.py            # writes results/orthogonal.csv and results/simplex.csv
    python configs/ideas/run.py orthogonal simplex --table

The models and their terms are those of orthogonal.yaml and simplex.yaml. The earlier model sees 200 digits in 30 steps,
the later one 2,000 in 120, without augmentation and from memory. Scores are mean average precisions on 500 test
digits, for pictures that ask for pictures of the same digit: ``align evaluate --with compatibility`` gives them for
shards.

Arms of orthogonal: ``apart`` (the later model without a term for the earlier one) and ``orthogonal``. Arms of simplex:
``apart`` and ``simplex``, where both models are trained with the fixed classifier.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
import torch.nn.functional as F
import yaml
from run import HERE, Row, table, write_rows
from torch import Tensor

from align.checkpoint import build_model
from align.data import Loader, Shards
from align.evaluation import retrieval
from align.losses import InfoNCE, Matryoshka, Simplex
from align.model import JointModel
from align.objective import Objective, Term
from align.values import Batch, Rows

OLD, NEW = (200, 30), (2000, 120)  # samples and steps
BATCH, RATE, TEST = 64, 3e-3, 500
TEACHERS = [["image", "old_image"], ["image", "old_text"], ["text", "old_image"], ["text", "old_text"]]


def build(config: str, seed: int) -> JointModel:
    """Return the model of a config, with weights of a seed."""
    model = yaml.safe_load((HERE / f"{config}.yaml").read_text(encoding="utf-8"))["model"]
    for tower in model["towers"].values():
        tower["head"] = {"class_path": tower.get("head", "align.heads.Linear")}
        width = tower["encoder"]["init_args"]["width"]
        tower.setdefault("preprocess", {"class_path": "align.preprocess.Array", "init_args": {"shape": [width]}})
    torch.manual_seed(seed)
    return build_model(model)


def make_objective(model: JointModel, classes: list[str], kind: str) -> Objective:
    """Return the terms of a config, or those of a model that is trained apart."""
    terms = {"pairs": Term(InfoNCE(), ["image", "text"])}
    if kind == "simplex":
        terms["classes"] = Term(Simplex("digit", classes=classes), ["image", "text"])
    if kind == "orthogonal":
        terms["old"] = Term(Matryoshka(InfoNCE(), [16, 24], [1.0, 0.0]), [[*pair] for pair in TEACHERS])
    return Objective(terms, dim=model.dim, batch=BATCH, modalities=model.modalities)


def read(model: JointModel, urls: str) -> Batch:
    """Return all samples of some shards as one batch, as evaluation reads them."""
    reading = Shards(urls, shuffle=False)
    readers = {m: model.preprocess[m] for m in ("image", "text")}
    return next(iter(Loader(reading, readers, batch=len(reading), workers=0, train=False)))


def train(model: JointModel, kind: str, data: Batch, length: tuple[int, int], seed: int) -> float:
    """Train on the first samples of a batch, and return the seconds of this process."""
    begin, (samples, steps) = time.process_time(), length
    objective = make_objective(model, sorted({label["digit"] for label in data.labels}), kind)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=RATE)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    model.train()
    for _ in range(steps):
        loss, _ = objective(model(take(data, torch.randperm(samples, generator=draw)[:BATCH])), generator=draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
        objective.clamp_()
    model.eval()
    return round(time.process_time() - begin, 1)


def take(data: Batch, chosen: Tensor) -> Batch:
    """Return some samples, each of which has one row of every modality."""
    rows = {
        m: Rows(values[chosen], torch.arange(len(chosen))) for m in data if torch.is_tensor(values := data[m].values)
    }
    labels, ids = ([given[i] for i in chosen.tolist()] for given in (data.labels, data.ids))
    group = None if data.group is None else data.group[chosen]
    return Batch(rows, ids, data.position[chosen], labels, group=group)


def embed(model: JointModel, data: Batch, modality: str) -> Tensor:
    """Return the embeddings (n, D) of a modality."""
    values = data[modality].values
    assert torch.is_tensor(values)
    return torch.cat([model.embed_values(modality, part) for part in values.split(500)])


def with_old(data: Batch, old: JointModel) -> Batch:
    """Return a batch with the earlier model's embeddings as two more modalities, as a cache gives them."""
    more = {f"old_{m}": data[m]._replace(values=embed(old, data, m)) for m in ("image", "text")}
    return replace(data, rows={**data.rows, **more})


def measure(arm: str, seed: int, seconds: float, new: JointModel, old: JointModel, test: Batch) -> list[Row]:
    """Return the mean average precision of three roles, and the criterion."""
    test = take(test, torch.arange(TEST))
    digits = torch.tensor([sorted({x["digit"] for x in test.labels}).index(x["digit"]) for x in test.labels])

    def same(a: Tensor, b: Tensor) -> Tensor:
        return digits[a][:, None] == digits[b]

    rows = {"old": embed(old, test, "image"), "new": embed(new, test, "image")}
    cut = F.normalize(rows["new"][:, : old.dim], dim=1)
    found = {}
    for name, query, gallery in (
        ("old_to_old", rows["old"], rows["old"]),
        ("new_to_old", cut, rows["old"]),
        ("new_to_new", rows["new"], rows["new"]),
    ):
        keys = torch.arange(TEST)
        given = {"image": query}
        scores = retrieval(
            given, gallery, keys, keys, lambda a, b: digits[a][:, None] == digits[b], of="image", how="cosine"
        )
        found[f"image_to_image/{name}/map"] = scores["map"]
    found["image_to_image/criterion"] = float(
        found["image_to_image/new_to_old/map"] > found["image_to_image/old_to_old/map"]
    )
    return [Row(arm, seed, score, value, seconds) for score, value in found.items()]


def compare(seed: int, data: Batch, test: Batch) -> dict[str, list[Row]]:
    """Return name of the comparison -> its rows for one seed. The later models begin with weights of another seed."""
    later = seed + 100
    old, new, turned = build("simplex", seed), build("simplex", later), build("orthogonal", later)
    train(old, "apart", data, OLD, seed)
    apart = measure("apart", seed, train(new, "apart", data, NEW, later), new, old, test)
    seconds = train(turned, "orthogonal", with_old(data, old), NEW, later)
    orthogonal = measure("orthogonal", seed, seconds, turned, old, test)
    old, new = build("simplex", seed), build("simplex", later)
    train(old, "simplex", data, OLD, seed)
    simplex = measure("simplex", seed, train(new, "simplex", data, NEW, later), new, old, test)
    return {"orthogonal": [*apart, *orthogonal], "simplex": [*apart, *simplex]}


if __name__ == "__main__":
    first = build("simplex", 0)
    data, test = read(first, "shards/digits/train-00000[0-1].tar"), read(first, "shards/digits/test-000000.tar")
    found: dict[str, list[Row]] = {"orthogonal": [], "simplex": []}
    for seed in (0, 1, 2):
        for name, rows in compare(seed, data, test).items():
            found[name] += rows
            print("\n".join([f"{name}, {seed + 1} seeds", *table(found[name])]), flush=True)
    for name, rows in found.items():
        write_rows(HERE / "results" / f"{name}.csv", rows)
