"""Queries of several modalities for a picture on solids: sum, product, and `Fuse` with and without modality dropout.

    python configs/ideas/fused.py                 # 2 cores, 1 thread: 0.5 min a seed; writes results/fused.csv
    python configs/ideas/run.py fused --table

The model is that of composed.yaml, frozen. `Fuse` learns on the embeddings of its training solids, with the towers and
the term of fused.yaml, and keeps the step that is best on the last 400 of them. A hit is a picture of an equal solid.
"""

from __future__ import annotations

import copy
import sys
import time
from itertools import combinations

import torch
from composed_model import open_space
from run import HERE, Row, table, write_rows
from torch import Tensor

from align.heads import Fuse
from align.heads.fuse import lay_out
from align.losses import InfoNCE
from align.metrics import mean_average_precision
from align.scoring import score
from align.values import Embeddings, Features

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
    optimizer = torch.optim.AdamW([*head.parameters(), *loss.parameters()], 1e-3, weight_decay=0.05)
    hits, best, kept = group[-HELD:, None] == group[-HELD:], -1.0, copy.deepcopy(head)
    for step in range(STEPS + 1):
        if step % 50 == 0:
            head.eval()
            given = [score_fused(head, rows[-HELD:], images[-HELD:], asked) for asked in ASKED]
            found = sum(mean_average_precision(one, hits) for one in given)
            if found > best:
                best, kept = found, copy.deepcopy(head)
            head.train()
        at = torch.randperm(len(rows) - HELD)[:BATCH]
        ids = torch.arange(BATCH)
        query = torch.nn.functional.normalize(head(Features(rows[at])), dim=1)
        value = loss([query, images[at]], [ids, ids], groups=[group[at], group[at]])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.clamp_()
    return kept.eval()


def read_split(found: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
    """Return the laid out rows of a split, the pictures' embeddings, and the groups."""
    assert found.group is not None
    return lay_out(found, PARTS), lay_out(found, ["image"]), found.group


def measure(seed: int) -> list[Row]:
    """Return the rows of a seed."""
    begin = time.monotonic()
    space = open_space(seed)
    train, test = read_split(space.table(split="train")), read_split(space.table())
    heads = {"fuse": learn(*train, 0.3, seed), "fuse, no dropout": learn(*train, 0.0, seed)}
    rows, images, group = test
    parts = dict(zip(PARTS, rows.chunk(len(PARTS), dim=1), strict=True))
    hits, out = group[:, None] == group, []
    for asked in ASKED:
        query = {m: parts[m] for m in asked}
        ways = {"sum": score(query, images), "product": score(query, images, "mip")}
        ways |= {name: score_fused(head, rows, images, asked) for name, head in heads.items()}
        for way, found in ways.items():
            seconds = round(time.monotonic() - begin, 1)
            out.append(Row(way, seed, f"{'+'.join(asked)}/map", mean_average_precision(found, hits), seconds))
    return out


def main() -> None:
    rows = []
    for seed in range(3):
        rows += measure(seed)
        print("\n".join(table(rows)), file=sys.stderr, flush=True)
    write_rows(HERE / "results" / "fused.csv", rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
