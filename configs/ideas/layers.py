"""One tower at three depths and two sizes: a loss at its layers and prefixes, against one at its end alone.

    python configs/ideas/layers.py                     # writes configs/ideas/results/layers.csv
    python configs/ideas/run.py layers --table

A transformer of 4 blocks reads a digit's picture as a series of 28 columns, 200 steps on 2,000 digits. A score is the
zero-shot accuracy on 1,000 test digits of the tower that ends after a layer, with the first numbers of its embedding:
"layer 1, 8 numbers".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from from_memory import accuracy, compare, embed, join, read, train, words_of
from torch import Tensor, nn

from align import JointModel, Objective, Tower
from align.encoders import Layered, Precomputed, Series
from align.losses import InfoNCE, Layers, Matryoshka
from align.model.layers import at_layer
from align.objective import Term
from align.preprocess import Array

DIM, STEPS, DEPTHS, SIZES = 32, 200, [1, 2, 4], [4, 32]


def columns(x: Tensor) -> Tensor:
    """Return pictures (n, 3, 28, 28) as series (n, 28, 28) of mean 0 and deviation 1."""
    return (x[:, 0].float() / 255 - 0.13) / 0.31


def main() -> None:
    (x, labels), (y, tested) = read("digits", "train", 28), read("digits", "test", 28, 1000)
    names = sorted({label["digit"] for label in labels})
    data = join(labels, image=columns(x), text=words_of(labels, names))
    test = join(tested, image=columns(y), text=words_of(tested, names))
    right = torch.tensor([names.index(label["digit"]) for label in tested])

    def run(seed: int, make: Callable[[], nn.Module]) -> dict[str, float]:
        image = Tower(Array([28, 28]), Layered(Series(28, 28, 32, 4, 2, patch=4), DEPTHS))
        model = JointModel({"image": image, "text": Tower(Array([10]), Precomputed(10))}, DIM)
        objective = Objective({"pairs": Term(make(), ["image", "text"])}, dim=DIM, batch=64)
        train(model, objective, data, STEPS, seed)
        classes, found = model.embed_values("text", torch.eye(10)), {}
        for layer in DEPTHS:
            rows = embed(at_layer(model, layer, "image"), "image", test)
            for size in SIZES:
                found[f"layer {layer}, {size} numbers"] = accuracy(rows[:, :size], classes[:, :size], right)
        return found

    compare(
        "layers",
        {
            "last layer": lambda seed: run(seed, InfoNCE),
            "prefixes": lambda seed: run(seed, lambda: Matryoshka(InfoNCE(), SIZES)),
            "layers": lambda seed: run(seed, lambda: Layers(InfoNCE(), DEPTHS, ["image"])),
            "layers and prefixes": lambda seed: run(
                seed, lambda: Layers(Matryoshka(InfoNCE(), SIZES), DEPTHS, ["image"])
            ),
        },
    )


if __name__ == "__main__":
    main()
