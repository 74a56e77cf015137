"""A digits model and its successor: trained apart, with an orthogonal map, or with a fixed simplex.

    python configs/ideas/compatible.py           # 2 cores, 1 thread: 0.2 min a seed; writes results/orthogonal.csv and
                                                 # simplex.csv

The models and their terms are those of orthogonal.yaml and simplex.yaml. The earlier model sees 200 digits in 30 steps,
the later one 2,000 in 120, without augmentation and from memory. Scores are mean average precisions on 500 test
digits, for pictures that ask for pictures of the same digit: ``align evaluate --with compatibility`` gives them for
shards.

Arms of orthogonal: ``apart`` (the later model without a term for the earlier one) and ``orthogonal``. Arms of simplex:
``apart`` and ``simplex``, where both models are trained with the fixed classifier.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
import yaml
from compare import HERE, Arms, compare
from fit import draw, take, train
from sets import find_shards
from torch import Tensor

from align.checkpoint import build_model
from align.data import Loader, Shards
from align.evaluation import retrieval
from align.losses import InfoNCE, Matryoshka, Simplex
from align.model import JointModel
from align.objective import Objective, Term
from align.values import Batch

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


@cache
def read(split: str, count: int) -> Batch:
    """Return the samples of the first shards of digits as one batch, as evaluation reads them."""
    shards = Shards(find_shards("digits", split)[:count], shuffle=False)
    preprocess = build("simplex", 0).preprocess
    readers = {m: preprocess[m] for m in ("image", "text")}
    return next(iter(Loader(shards, readers, batch=len(shards), workers=0, train=False)))


def learn(model: JointModel, kind: str, data: Batch, length: tuple[int, int], seed: int) -> None:
    """Train on the first samples of a batch."""
    samples, steps = length
    objective = make_objective(model, sorted({label["digit"] for label in data.labels}), kind)
    draws = torch.Generator().manual_seed(seed)
    batches = (take(data, some) for some in draw(samples, BATCH, steps, draws))
    train(model, objective, batches, steps, RATE, generator=draws)


def embed(model: JointModel, data: Batch, modality: str) -> Tensor:
    """Return the embeddings (n, D) of a modality."""
    values = data[modality].values
    assert torch.is_tensor(values)
    return torch.cat([model.embed_values(modality, part) for part in values.split(500)])


def with_old(data: Batch, old: JointModel) -> Batch:
    """Return a batch with the earlier model's embeddings as two more modalities, as a cache gives them."""
    more = {f"old_{m}": data[m]._replace(values=embed(old, data, m)) for m in ("image", "text")}
    return replace(data, rows={**data.rows, **more})


def score(new: JointModel, old: JointModel) -> dict[str, float]:
    """Return the mean average precision of three roles, and the criterion."""
    keys = torch.arange(TEST)
    test = take(read("test", 1), keys)
    digits = torch.tensor([sorted({x["digit"] for x in test.labels}).index(x["digit"]) for x in test.labels])
    first, rows = embed(old, test, "image"), embed(new, test, "image")
    found = {}
    for name, query, gallery in (
        ("old_to_old", first, first),
        ("new_to_old", F.normalize(rows[:, : old.dim], dim=1), first),
        ("new_to_new", rows, rows),
    ):
        scores = retrieval(
            {"image": query},
            gallery,
            keys,
            keys,
            lambda a, b: digits[a][:, None] == digits[b],
            of="image",
            how="cosine",
        )
        found[f"image_to_image/{name}/map"] = scores["map"]
    better = found["image_to_image/new_to_old/map"] > found["image_to_image/old_to_old/map"]
    return {**found, "image_to_image/criterion": float(better)}


def learn_old(kind: str, seed: int) -> JointModel:
    """Return an earlier model."""
    old = build("simplex", seed)
    learn(old, kind, read("train", 2), OLD, seed)
    return old


def learn_new(config: str, kind: str, data: Batch, seed: int) -> JointModel:
    """Return a later model, which begins with weights of another seed."""
    new = build(config, seed + 100)
    learn(new, kind, data, NEW, seed + 100)
    return new


@cache
def apart(seed: int) -> dict[str, float]:
    return score(learn_new("simplex", "apart", read("train", 2), seed), learn_old("apart", seed))


def orthogonal(seed: int) -> Arms:
    def turn() -> dict[str, float]:
        old = learn_old("apart", seed)
        return score(learn_new("orthogonal", "orthogonal", with_old(read("train", 2), old), seed), old)

    return {"apart": lambda: apart(seed), "orthogonal": turn}


def simplex(seed: int) -> Arms:
    def fix() -> dict[str, float]:
        return score(learn_new("simplex", "simplex", read("train", 2), seed), learn_old("simplex", seed))

    return {"apart": lambda: apart(seed), "simplex": fix}


if __name__ == "__main__":
    compare(__doc__, orthogonal=orthogonal, simplex=simplex)
