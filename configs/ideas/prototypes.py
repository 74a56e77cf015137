"""Attributes of scenes in a picture's embedding, with terms against prototypes of shapes and colors and without.

    python configs/ideas/in_process.py prototypes

Scores are the mean over an attribute's values of the average precision of test pictures (a scene shows several values).
``zeroshot`` ranks by the mean embedding of captions of one solid, ``probe`` by a ridge regression on the training
pictures. Material and size stand in no caption and in no term.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from in_process import find_member, read_split
from torch import Tensor

from align.metrics import mean_average_precision

TERMS = ("shape", "color")
PART = "--objective.terms.{}.loss.init_args.{}={}"
ARMS = {
    "without": ([f"--objective.terms.{name}.weight=0" for name in TERMS], ()),
    "learned, sigmoid": ([], ()),
    "learned, softmax": ([PART.format(name, "form", "softmax") for name in TERMS], ()),
    "means, softmax": ([PART.format(n, k, v) for n in TERMS for k, v in (("form", "softmax"), ("vectors", "means"))], ()),
}


def read_rows(model: Any, samples: Sequence[Any]) -> tuple[Tensor, list[dict[str, list[str]]]]:
    """Return embeddings (n, D) of the samples' pictures and their labels."""
    labels = [json.loads(sample["json"])["label"] for sample in samples]
    return model.embed(image=[find_member(sample, "image") for sample in samples])["image"], labels


def score(model: Any) -> dict[str, float]:
    """Return the mean average precision of each attribute, zero-shot and by a probe."""
    (x, labels), (fitted, known) = (read_rows(model, read_split("scenes", split)) for split in ("test", "train"))
    values = {name: sorted({v for label in known for v in label[name]}) for name in known[0]}
    found = {}
    for name, names in values.items():
        hits, of = (torch.tensor([[v in label[name] for label in some] for v in names]) for some in (labels, known))
        one, ones = (F.pad(rows.double(), (0, 1), value=1.0) for rows in (fitted, x))
        fit = torch.linalg.solve(one.T @ one + torch.eye(one.shape[1]), one.T @ of.T.double())  # (D + 1, C)
        found[f"probe/{name}/map"] = mean_average_precision((ones @ fit).T, hits)
        if name in TERMS:
            other = values["color" if name == "shape" else "shape"]
            captions = [[f"a {o} {v}" if name == "shape" else f"a {v} {o}" for o in other] for v in names]
            prompts = torch.stack([F.normalize(model.embed(text=some)["text"].mean(0), dim=0) for some in captions])
            found[f"zeroshot/{name}/map"] = mean_average_precision(prompts @ x.T, hits)
    return found
