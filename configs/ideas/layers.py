"""One tower at three depths and two sizes: a loss at its layers and prefixes, against one at its end alone.

    python configs/ideas/layers.py               # 2 cores, 1 thread: 1 min a seed; writes results/layers.csv

A transformer of 4 blocks reads a digit's picture as a series of 28 columns, 200 steps on 2,000 digits. A score is the
zero-shot accuracy on 1,000 test digits of the tower that ends after a layer, with the first numbers of its embedding:
"layer 1, 8 numbers".
"""

from __future__ import annotations

from functools import cache

import torch
from compare import Arms, compare
from from_memory import accuracy, embed, join, learn, read, words_of
from torch import Tensor

from align import JointModel, Objective, Tower
from align.encoders import Layered, Precomputed, Series
from align.losses import InfoNCE, Layers, Loss, Matryoshka
from align.model.layers import at_layer
from align.objective import Term
from align.preprocess import Array
from align.values import Batch

DIM, STEPS, DEPTHS, SIZES = 32, 200, [1, 2, 4], [4, 32]


def columns(x: Tensor) -> Tensor:
    """Return pictures (n, 3, 28, 28) as series (n, 28, 28) of mean 0 and deviation 1."""
    return (x[:, 0].float() / 255 - 0.13) / 0.31


@cache
def read_digits(split: str, most: int) -> tuple[Batch, Tensor]:
    """Return pictures and names of digits, and the number of each name, (n,)."""
    x, labels = read("digits", split, 28, most)
    names = sorted({label["digit"] for label in labels})
    right = torch.tensor([names.index(label["digit"]) for label in labels])
    return join(labels, image=columns(x), text=words_of(labels, names)), right


def learn_with(loss: Loss, seed: int) -> dict[str, float]:
    """Train with a loss, and score every layer with every size."""
    image = Tower(Array([28, 28]), Layered(Series(28, 28, 32, 4, 2, patch=4), DEPTHS))
    model = JointModel({"image": image, "text": Tower(Array([10]), Precomputed(10))}, DIM)
    objective = Objective({"pairs": Term(loss, ["image", "text"])}, dim=DIM, batch=64)
    learn(model, objective, read_digits("train", 2000)[0], STEPS, seed)
    test, right = read_digits("test", 1000)
    classes, found = model.embed_values("text", torch.eye(10)), {}
    for layer in DEPTHS:
        rows = embed(at_layer(model, layer, "image"), "image", test)
        for size in SIZES:
            found[f"layer {layer}, {size} numbers"] = accuracy(rows[:, :size], classes[:, :size], right)
    return found


def arms(seed: int) -> Arms:
    return {
        "last layer": lambda: learn_with(InfoNCE(), seed),
        "prefixes": lambda: learn_with(Matryoshka(InfoNCE(), SIZES), seed),
        "layers": lambda: learn_with(Layers(InfoNCE(), DEPTHS, ["image"]), seed),
        "layers and prefixes": lambda: learn_with(Layers(Matryoshka(InfoNCE(), SIZES), DEPTHS, ["image"]), seed),
    }


if __name__ == "__main__":
    compare(__doc__, layers=arms)
