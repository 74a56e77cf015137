"""Short and long captions of a picture: one vector for both, a global token for each, and one source alone.

    python configs/ideas/sources.py              # 2 cores, 1 thread: 5 min a seed; writes results/sources.csv

Scores are recall@10 of 400 pictures of scenes, by their short captions and by their long ones.
"""

from __future__ import annotations

from typing import Any

import torch
from compare import compare
from in_process import train_arms
from sets import find_member, read_set

from align.metrics import ranks, recall_at
from align.scoring import choose
from align.scoring import score as score_rows

SHARED = [
    "--model.towers.image.head=align.heads.AttentionPool",
    *(f"--model.towers.{m}.head=align.heads.Linear" for m in ("text", "long")),
    *(f"--objective.terms.{name}.loss=align.losses.InfoNCE" for name in ("text", "long")),
]
ARMS = {
    "one vector": (SHARED, ()),
    "own tokens": ([], ()),
    "short alone": ([*SHARED, "--objective.terms.long.weight=0"], ()),
    "long alone": ([*SHARED, "--objective.terms.text.weight=0"], ()),
}


def score(model: Any) -> dict[str, float]:
    """Return recall@10 of pictures by their short captions, and by their long ones."""
    samples = read_set("scenes", "test")
    pictures = model.embed(image=[find_member(sample, "image") for sample in samples])["image"]
    found = {}
    for m in ("text", "long"):
        texts = model.embed(**{m: [find_member(sample, m).decode().splitlines()[0] for sample in samples]})[m]
        how = choose(model.terms, [m], "image")
        scores = score_rows({m: texts}, pictures, how, of="image", terms=model.terms)
        found[f"{m}_to_image/recall@10"] = float(recall_at(ranks(scores, torch.eye(len(samples)) > 0), 10))
    return found


if __name__ == "__main__":
    compare(__doc__, sources=train_arms("sources", ARMS, score))
