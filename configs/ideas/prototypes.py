"""Attributes of scenes in a picture's embedding, with terms against prototypes of shapes and colors and without.

    python configs/ideas/prototypes.py           # 2 cores, 1 thread: 0.5 min a seed; writes results/prototypes.csv

A small ImageCNN and the words of a short caption (shapes and colors), 200 steps on 2,000 scenes. Scores are the mean
over an attribute's values of the average precision of 400 test pictures; a scene shows several values. ``zeroshot``
ranks by the embedding of the single word, ``probe`` by a ridge regression on the training pictures. Material and size
stand in no caption and in no term.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from compare import Arms, compare
from from_memory import embed, join, learn, read, words_of
from torch import Tensor

from align import JointModel, Objective, Tower
from align.encoders import ImageCNN, Precomputed
from align.heads import MLP
from align.losses import InfoNCE, Prototypes
from align.metrics import mean_average_precision
from align.objective import Term
from align.preprocess import Array, Image
from align.values import Batch

DIM, STEPS, TERMS = 32, 200, ("shape", "color")


def tell(labels: list[dict[str, list[str]]], words: list[str]) -> Tensor:
    """Return the words of captions of scenes as `words_of` does."""
    return words_of([{name: label[name] for name in TERMS} for label in labels], words)


def arms(seed: int) -> Arms:
    (x, labels), (y, tested) = read("scenes", "train", 32), read("scenes", "test", 32)
    values = {name: sorted({v for label in labels for v in label[name]}) for name in labels[0]}
    words = [v for name in TERMS for v in values[name]]
    data, test = join(labels, image=x, text=tell(labels, words)), join(tested, image=y, text=tell(tested, words))

    def run(**losses: Prototypes) -> dict[str, float]:
        image = Tower(Image(32, mean="half"), ImageCNN(64, 3, [8, 16, 32], 4), MLP)
        text = Tower(Array([len(words)]), Precomputed(len(words)), MLP)
        model = JointModel({"image": image, "text": text}, DIM)
        terms = {name: Term(loss, ["image", "text"], 0.3) for name, loss in losses.items()}
        terms = {"pairs": Term(InfoNCE(), ["image", "text"]), **terms}
        learn(model, Objective(terms, dim=DIM, batch=64, modalities=["image", "text"]), data, STEPS, seed)
        return score(model, data, test, values, words)

    def term(**options: Any) -> dict[str, float]:
        return run(**{name: Prototypes(name, classes=values[name], **options) for name in TERMS})

    return {
        "without": run,
        "learned, softmax": term,
        "learned, sigmoid": lambda: term(form="sigmoid"),
        "means": lambda: term(vectors="means"),
        "means of text": lambda: term(vectors="means", of="text"),
    }


def score(
    model: JointModel, data: Batch, test: Batch, values: dict[str, list[str]], words: list[str]
) -> dict[str, float]:
    """Return the mean average precision of each attribute, zero-shot and by a probe."""
    seen, rows = (F.pad(embed(model, "image", b), (0, 1), value=1.0).double() for b in (data, test))
    prompts = model.embed_values("text", torch.eye(len(words))).double()
    found = {}
    for name, names in values.items():
        of, hits = (torch.tensor([[v in label[name] for label in b.labels] for v in names]) for b in (data, test))
        fit = torch.linalg.solve(seen.T @ seen + torch.eye(DIM + 1), seen.T @ of.T.double())  # (D + 1, C)
        found[f"probe/{name}/map"] = mean_average_precision((rows @ fit).T, hits)
        if name in TERMS:
            asked = prompts[[words.index(v) for v in names]]
            found[f"zeroshot/{name}/map"] = mean_average_precision(asked @ rows[:, :DIM].T, hits)
    return found


if __name__ == "__main__":
    compare(__doc__, prototypes=arms)
