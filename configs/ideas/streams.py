"""Shape and material of a picture in two spaces of one tower, against one space for both.

    python configs/ideas/streams.py              # 2 cores, 1 thread: 1.5 min a seed; writes results/streams.csv

A picture asks for pictures of its shape, and of its material: mean average precision. The arm "one space" has plain
heads and the same two terms. "two spaces" has `align.heads.Streams`, whose spaces are asked one by one. "and a term
across" has MeDSLIP's term between the two spaces of each picture beside them, `align.losses.Across`, of weight 0.3.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from compare import compare
from in_process import train_arms
from sets import find_member, read_set

from align.metrics import mean_average_precision
from align.model.spaces import in_space, list_spaces

PLAIN = [
    *(f"--model.towers.{m}.head=align.heads.Linear" for m in ("image", "shape", "material")),
    *(f"--objective.terms.{name}.loss=align.losses.InfoNCE" for name in ("shape", "material")),
]
TERM = {
    "loss": {
        "class_path": "align.losses.Across",
        "init_args": {
            "spaces": ["shape", "material"],
            "pair": ["shape", "material"],
            "loss": {"class_path": "align.losses.InfoNCE"},
        },
    },
    "between": ["image"],
    "weight": 0.3,
}
ACROSS = [f"--objective.terms.across={json.dumps(TERM)}"]
ARMS = {"one space": (PLAIN, ()), "two spaces": ([], ()), "and a term across": (ACROSS, ())}


def score(model: Any) -> dict[str, float]:
    """Return the mean average precision of pictures of one shape, and of one material, in each space of the model."""
    samples = read_set("solids", "test")
    labels = [json.loads(sample["json"])["label"] for sample in samples]
    keep = ~torch.eye(len(samples), dtype=torch.bool)
    found = {}
    for space in ("shape", "material") if list_spaces(model) else ("",):
        reader = in_space(model, space) if space else model
        rows = reader.embed(image=[find_member(sample, "image") for sample in samples])["image"]
        cosines = (rows @ rows.T)[keep].view(len(rows), -1)
        for name in ("shape", "material"):
            kinds = sorted({label[name] for label in labels})
            kind = torch.tensor([kinds.index(label[name]) for label in labels])
            hits = (kind[:, None] == kind)[keep].view(len(rows), -1)
            key = f"{name}/image_to_image/map" + (f", space {space}" if space else "")
            found[key] = mean_average_precision(cosines, hits)
    return found


if __name__ == "__main__":
    compare(__doc__, streams=train_arms("streams", ARMS, score))
