"""Digits with 40 % of wrong captions: zero-shot accuracy on clean test digits.

    python configs/ideas/capro.py                # 2 cores, 1 thread: 4 min a seed; writes results/capro.csv

Labels and groups are those of the wrong captions. InfoNCE leaves out pairs of one group. Its arm on the same pictures
with their right captions is the ceiling.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from compare import compare
from in_process import train_arms
from noisy_digits import NAMES
from sets import find_member, read_set

CLEAN = "--data.train=shards/digits/train-00000[0-3].tar"
ALONE = "--objective.terms.clean.weight=0"
ARMS = {
    "InfoNCE": ([ALONE], ()),
    "CAPro beside": ([], ()),
    "CAPro": (["--objective.terms.pairs.weight=0"], ()),
    "InfoNCE, then CAPro": ([], [(75, {"pairs": 1.0}), (150, {"clean": 1.0})]),
    "InfoNCE, right captions": ([ALONE, CLEAN], ()),
}


def score(model: Any) -> dict[str, float]:
    """Return the accuracy of 1,000 test pictures, by the nearest of ten captions."""
    samples = read_set("digits", "test")[:1000]
    right = torch.tensor([NAMES.index(json.loads(sample["json"])["label"]["digit"]) for sample in samples])
    x = model.embed(image=[find_member(sample, "image") for sample in samples])["image"]
    prompts = model.embed(text=[f"the digit {name}" for name in NAMES])["text"]
    return {"zeroshot/digit/image/accuracy": float(((x @ prompts.T).argmax(1) == right).double().mean())}


if __name__ == "__main__":
    compare(__doc__, capro=train_arms("capro", ARMS, score))
