"""Queries of several modalities for a picture on solids: sum, product, and `Fuse` with and without modality dropout.

    python configs/ideas/fused.py                # 2 cores, 1 thread: 0.5 min a seed; writes results/fused.csv

The model is that of composed.yaml, frozen. The first start trains it and keeps it in runs/ideas. `Fuse` learns on the
embeddings of its training solids, with the towers and the term of fused.yaml, and keeps the step that is best on the
last 400 of them. A hit is a picture of an equal solid.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Literal

import torch
from compare import Arms, compare
from composed_model import open_space
from fit import draw, fit
from torch import Tensor

from align.heads import Fuse
from align.heads.fuse import lay_out
from align.losses import InfoNCE
from align.metrics import mean_average_precision
from align.scoring import score
from align.values import Features

PARTS = ("text", "audio", "points")
ASKED = [some for n in (1, 2, 3) for some in combinations(PARTS, n)]
HELD, STEPS, BATCH = 400, 200, 256


def blank(rows: Tensor, asked: tuple[str, ...]) -> Tensor:
    """Return the rows (n, 3 · D) with zeros in place of the modalities that are not asked with."""
    blocks = rows.unflatten(1, (len(PARTS), -1)).clone()
    blocks[:, [i for i, m in enumerate(PARTS) if m not in asked]] = 0
    return blocks.flatten(1)


def score_fused(head: Fuse, rows: Tensor, images: Tensor, asked: tuple[str, ...]) -> Tensor:
    """Return (n, n) cosines of the fused queries with the pictures."""
    with torch.no_grad():
        return score({"query": head(Features(blank(rows, asked)))}, images)


def learn(rows: Tensor, images: Tensor, group: Tensor, dropout: float, seed: int) -> Fuse:
    """Return the head that is best on the held-out rows, by the mean over all sets of modalities."""
    torch.manual_seed(seed)
    head, loss = Fuse(rows.shape[1], images.shape[1], modalities=len(PARTS), dropout=dropout), InfoNCE()
    loss.start(images.shape[1], 2, BATCH)
    hits, best, kept = group[-HELD:, None] == group[-HELD:], -1.0, copy.deepcopy(head)
    ids = torch.arange(BATCH)

    def compute_losses() -> Iterator[Tensor]:
        nonlocal best, kept
        for step, at in enumerate(draw(len(rows) - HELD, BATCH, STEPS + 1)):
            if step % 50 == 0:
                head.eval()
                given = [score_fused(head, rows[-HELD:], images[-HELD:], asked) for asked in ASKED]
                found = sum(mean_average_precision(one, hits) for one in given)
                if found > best:
                    best, kept = found, copy.deepcopy(head)
                head.train()
            query = torch.nn.functional.normalize(head(Features(rows[at])), dim=1)
            yield loss([query, images[at]], [ids, ids], groups=[group[at], group[at]])

    fit(compute_losses(), [head, loss], 1e-3, decay=0.05)
    return kept.eval()


def read_split(seed: int, split: Literal["train", "test"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the laid out rows of a split, the pictures' embeddings, and the groups."""
    found = open_space(seed).table(split=split)
    assert found.group is not None
    return lay_out(found, PARTS), lay_out(found, ["image"]), found.group


def arms(seed: int) -> Arms:
    train, (rows, images, group) = read_split(seed, "train"), read_split(seed, "test")
    parts: dict[str, Tensor] = dict(zip(PARTS, rows.chunk(len(PARTS), dim=1), strict=True))
    hits = group[:, None] == group

    def ask(find: Callable[[tuple[str, ...]], Tensor]) -> dict[str, float]:
        return {f"{'+'.join(asked)}/map": mean_average_precision(find(asked), hits) for asked in ASKED}

    def add(how: Literal["cosine", "mip"]) -> dict[str, float]:
        return ask(lambda asked: score({m: parts[m] for m in asked}, images, how))

    def fuse(dropout: float) -> dict[str, float]:
        head = learn(*train, dropout, seed)
        return ask(lambda asked: score_fused(head, rows, images, asked))

    return {
        "sum": lambda: add("cosine"),
        "product": lambda: add("mip"),
        "fuse": lambda: fuse(0.3),
        "fuse, no dropout": lambda: fuse(0.0),
    }


if __name__ == "__main__":
    compare(__doc__, fused=arms)
