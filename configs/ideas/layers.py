"""One picture tower at two depths and two sizes: a loss at its layers and prefixes, against one at its end alone.

    python configs/ideas/layers.py                     # writes configs/ideas/results/layers.csv
    python configs/ideas/run.py layers --table

A score is the zero-shot accuracy on test digits of the tower that ends after a layer, with the first numbers of its
embedding: "layer 1, 8 numbers".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from from_memory import compare, embed

from align.model import JointModel
from align.model.layers import at_layer
from align.values import Batch

LOSS = "--objective.terms.pairs.loss"
ARMS = {
    "last layer": [f"{LOSS}=align.losses.InfoNCE"],
    "layers": [f"{LOSS}.init_args.loss=align.losses.InfoNCE"],
    "layers and prefixes": [],
}


def score(model: JointModel, fitted: Batch, tested: Batch) -> dict[str, float]:
    """Return the accuracy of each layer and number of coordinates."""
    names = sorted({str(label["digit"]) for label in tested.labels})
    right = torch.tensor([names.index(str(label["digit"])) for label in tested.labels])
    words, texts = tested["text"], embed(model, "text", tested)
    classes = torch.stack([texts[right[words.sample] == c].mean(0) for c in range(len(names))])  # (10, D)
    found = {}
    for layer in (1, 2, 4):
        rows = embed(at_layer(model, layer, "image"), "image", tested)
        for size in (8, 64):
            a, b = (F.normalize(x[:, :size], dim=1) for x in (rows, classes))
            found[f"layer {layer}, {size} numbers/accuracy"] = float(((a @ b.T).argmax(1) == right).double().mean())
    return found


if __name__ == "__main__":
    compare("layers", "digits", ARMS, score)
