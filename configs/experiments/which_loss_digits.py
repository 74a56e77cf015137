"""Every loss on real digits of which most rows are missing.

    python datasets/digits.py shards/digits
    python configs/experiments/which_loss_digits.py

It takes 3,000 samples of one digit each, an image, a recording and its word, and each row is missing in training with
probability .6. The value `pairs` is the mean class recall@1 over the six ordered pairs, `word` is how often the right
word is first for image and sound together. Pairs are scored by the terms that fit them, else by cosine, as the library
does. Towers have one hidden layer, over pixels and over the log-mel picture at a quarter of its length.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any

import torch
import torch.nn.functional as F
from digits import MODALITIES, read, towers
from torch import Tensor, nn
from which_loss import HERE, keep
from which_loss import read as rows_of
from which_loss_losses import LOSSES, asks, scores

from align.losses import GatedSymile, Symile
from align.objective import Objective, Term
from align.scoring import choose, score
from align.values import Embeddings, Rows

DIM, BATCH, STEPS, LR = 32, 128, 250, 3e-3
TRAIN, TEST = 3000, 1000
MISSING = 0.6
OUT = HERE / "which_loss_holes.csv"
STANDING_IN = {
    "Symile, learned rows": lambda: {"every": Term(Symile("partial", missing="learned"), "all")},
    "Gated Symile, neutral rows": lambda: {"every": Term(GatedSymile(missing="neutral"), "all")},
}
"""Losses that put a row in the place of a missing one."""
Values = dict[str, Tensor]


def load(shards: str) -> tuple[Values, Tensor, Values, Tensor]:
    """Return the rows (n, W) of each modality and the digits (n,), of the train and of the test split."""
    model, found = towers(0), []
    for split, count in (("train", TRAIN), ("test", TEST)):
        values, numbers = read(f"{shards}/{split}-*.tar", model, count)
        x = {m: model.preprocess[m].device(values[m]) for m in ("audio", "image")}
        sound = F.avg_pool1d(x["audio"].flatten(1, 2), 4).flatten(1)  # (n, bands · frames / 4)
        pixels = x["image"].mean(1).flatten(1)  # (n, 784), the three colours are one
        found += [{"audio": sound, "image": pixels, "text": F.one_hot(numbers, 10).float()}]
        found += [numbers]
    train, a, test, b = found
    for m in ("audio", "image"):
        mean, std = train[m].mean(0), train[m].std() + 1e-6
        train[m], test[m] = (train[m] - mean) / std, (test[m] - mean) / std
    return train, a, test, b


def embed(networks: nn.ModuleDict, values: Values) -> Values:
    return {m: F.normalize(networks[m](x), dim=1) for m, x in values.items()}


def train(objective: Objective, networks: nn.ModuleDict, values: Values, numbers: Tensor, seed: int) -> None:
    """Train on the rows that are there. Samples of one digit are no negatives of each other."""
    draw = torch.Generator().manual_seed(seed)
    n = len(numbers)
    there = {m: torch.rand(n, generator=draw) >= MISSING for m in MODALITIES}
    optimizer = torch.optim.AdamW([*networks.parameters(), *objective.parameters()], lr=LR, weight_decay=0.01)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / STEPS)
        index = torch.randint(n, (BATCH,), generator=draw)
        x, said = {m: v[index] for m, v in values.items()}, numbers[index]
        ids = {m: there[m][index].nonzero()[:, 0] for m in MODALITIES}
        rows = {m: Rows(F.normalize(networks[m](x[m][ids[m]]), dim=1), ids[m]) for m in MODALITIES}
        value, _ = objective(
            Embeddings(rows, [str(i) for i in range(BATCH)], torch.arange(BATCH), group=said), generator=draw
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        objective.clamp_()


@torch.no_grad()
def measure(objective: Objective, networks: nn.ModuleDict, values: Values, numbers: Tensor) -> dict[str, float]:
    """Return both scores on complete samples."""
    x = embed(networks, values)
    words = F.normalize(networks["text"](torch.eye(10)), dim=1)
    best = scores(objective, {"audio": x["audio"], "image": x["image"]}, words, "text").argmax(1)
    terms, hits = objective.infos(), []
    gated = any(isinstance(loss, GatedSymile) for loss in objective.losses.values())
    for a, b in itertools.permutations(MODALITIES, 2):
        how = choose(terms, [a], b)
        found = scores(objective, {a: x[a]}, x[b], b) if gated else score({a: x[a]}, x[b], how, of=b, terms=terms)
        hits.append(float((numbers[found.argmax(1)] == numbers).float().mean()))
    return {"word": float((best == numbers).float().mean()), "pairs": sum(hits) / len(hits)}


def run(loss: str, seed: int, data: tuple[Values, Tensor, Values, Tensor]) -> list[list[Any]]:
    """Return a row for each score of one loss with one seed."""
    began = time.process_time()
    torch.manual_seed(seed)
    values, numbers, tests, answers = data
    made = {m: nn.Sequential(nn.Linear(values[m].shape[1], 128), nn.GELU(), nn.Linear(128, DIM)) for m in MODALITIES}
    networks = nn.ModuleDict(made)
    objective = Objective((LOSSES | STANDING_IN)[loss](), dim=DIM, batch=BATCH, modalities=list(MODALITIES))
    train(objective, networks, values, numbers, seed)
    found = measure(objective, networks, tests, answers)
    took = round(time.process_time() - began, 1)
    return [[f"rate {MISSING}, {name}", loss, seed, f"{value:.4f}", "", took] for name, value in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*(loss for loss in LOSSES if asks("holes", loss)), *STANDING_IN]
    parser.add_argument("--losses", nargs="+", choices=names, default=names, metavar="LOSS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shards", default="shards/digits")
    given = parser.parse_args()
    data = load(given.shards)
    for loss, seed in itertools.product(given.losses, given.seeds):
        if (f"rate {MISSING}, word", loss, str(seed)) not in rows_of(OUT):
            keep(OUT, run(loss, seed, data))


if __name__ == "__main__":
    main()
