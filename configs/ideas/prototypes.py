"""Attributes of scenes in a picture's embedding, with terms against prototypes of shapes and colors and without.

    python configs/ideas/prototypes.py                     # writes configs/ideas/results/prototypes.csv
    python configs/ideas/run.py prototypes --table

Scores are the mean over an attribute's values of the average precision of test pictures (a scene shows several values).
``zeroshot`` ranks by the mean embedding of captions of one solid, ``probe`` by a ridge regression on the training
pictures. Material and size stand in no caption and in no term.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from from_memory import compare, embed

from align.metrics import mean_average_precision
from align.model import JointModel
from align.values import Batch

TERMS = ("shape", "color")
PART = "--objective.terms.{}.loss.init_args.{}={}"
ARMS = {
    "without": [f"--objective.terms.{name}.weight=0" for name in TERMS],
    "learned, sigmoid": [],
    "learned, softmax": [PART.format(name, "form", "softmax") for name in TERMS],
    "means, softmax": [PART.format(n, k, v) for n in TERMS for k, v in (("form", "softmax"), ("vectors", "means"))],
}


def score(model: JointModel, fitted: Batch, tested: Batch) -> dict[str, float]:
    """Return the mean average precision of each attribute, zero-shot and by a probe."""
    x, seen, found = embed(model, "image", tested), embed(model, "image", fitted), {}
    values = {name: sorted({v for label in fitted.labels for v in label[name]}) for name in fitted.labels[0]}
    for name, names in values.items():
        hits, of = (torch.tensor([[v in label[name] for label in b.labels] for v in names]) for b in (tested, fitted))
        one, ones = (F.pad(rows.double(), (0, 1), value=1.0) for rows in (seen, x))
        fit = torch.linalg.solve(one.T @ one + torch.eye(one.shape[1]), one.T @ of.T.double())  # (D + 1, C)
        found[f"probe/{name}/map"] = mean_average_precision((ones @ fit).T, hits)
        if name in TERMS:
            other = values["color" if name == "shape" else "shape"]
            captions = [[f"a {o} {v}" if name == "shape" else f"a {v} {o}" for o in other] for v in names]
            prompts = torch.stack([F.normalize(model.embed(text=some)["text"].mean(0), dim=0) for some in captions])
            found[f"zeroshot/{name}/map"] = mean_average_precision(prompts @ x.T, hits)
    return found


if __name__ == "__main__":
    compare("prototypes", "scenes", ARMS, score)
