"""A text tower of short captions that learns long ones: cut, stretched, and with the short captions' components.

    python configs/ideas/stretched.py            # 2 cores, 1 thread: 4 min a seed; writes results/stretched.csv

A picture and a text tower are trained on short captions, with 32 positions. From these weights each arm trains on:
"cut" on long captions without their end, "stretched" with 80 positions of which the first 20 stay, "components" so too,
and the short captions are compared with the 16 largest components of the pictures' rows. "before" trains no more.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from compare import Arms, compare
from fit import draw, fit
from scene_tensors import Pixels, encode, read_scenes
from torch import Tensor, nn

from align.encoders import TransformerText
from align.encoders.positions import stretch_positions
from align.losses import InfoNCE, Loss, PrimaryComponents
from align.metrics import mean_average_precision, ranks, recall_at
from align.seeds import derive

STEPS, BATCH, TABLE, CONTEXT, KEEP, DIM, COMPONENTS = 200, 64, 32, 80, 20, 64, 16


class Pair(nn.Module):
    """A picture and a text tower."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Pixels(DIM)
        self.text = TransformerText(256, TABLE, DIM, 1, 4)

    def embed(self, modality: str, x: Tensor) -> Tensor:
        x = x[:, : self.text.context] if modality == "text" else x
        return F.normalize(getattr(self, modality)(x).pooled, dim=1)


def learn(model: Pair, losses: dict[str, Loss], seed: int) -> None:
    """Train on pictures and some captions of each. losses: kind of captions -> their loss."""
    scenes, ids = read_scenes("train"), torch.arange(BATCH)
    for loss in losses.values():
        loss.start(DIM, 2, BATCH)

    def compute(chosen: Tensor) -> Tensor:
        image = model.embed("image", scenes.image[chosen])
        texts = {name: model.embed("text", getattr(scenes, name)[chosen]) for name in losses}
        return torch.stack([losses[name]([image, text], [ids, ids]) for name, text in texts.items()]).sum()

    draws = torch.Generator().manual_seed(derive(seed, "batches"))
    values = map(compute, draw(len(scenes.image), BATCH, STEPS, draws))
    fit(values, [model, *losses.values()], 2e-3, cycle=STEPS, decay=0.05)


@torch.no_grad()
def score(model: Pair) -> dict[str, float]:
    """Return recall@1 of long and short captions by pictures, and the mean average precision of colors."""
    scenes, found = read_scenes("test"), {}
    image = model.embed("image", scenes.image)
    hits = torch.eye(len(image), dtype=torch.bool)
    for name in ("long", "short"):
        scores = image @ model.embed("text", getattr(scenes, name)).T
        found[f"image_to_{name}/recall@1"] = recall_at(ranks(scores, hits), 1)
    colors = sorted({color for label in scenes.labels for color in label["color"]})
    scores = model.embed("text", encode([f"a {color} cube" for color in colors])) @ image.T  # (colors, N)
    members = torch.tensor([[color in label["color"] for label in scenes.labels] for color in colors])
    found["zeroshot/color/image/map"] = mean_average_precision(scores, members)
    return found


def arms(seed: int) -> Arms:
    torch.manual_seed(derive(seed, "weights"))
    first = Pair()

    def begin() -> dict[str, float]:
        learn(first, {"short": InfoNCE()}, seed)
        return score(first)

    def go_on(stretch: bool, short: Loss) -> dict[str, float]:
        model = copy.deepcopy(first)
        if stretch:
            stretch_positions(model.text, CONTEXT, KEEP)
        learn(model, {"long": InfoNCE(), "short": short}, seed)
        return score(model)

    return {
        "before": begin,
        "cut": lambda: go_on(False, InfoNCE()),
        "stretched": lambda: go_on(True, InfoNCE()),
        "components": lambda: go_on(True, PrimaryComponents(InfoNCE(), COMPONENTS, "0")),
    }


if __name__ == "__main__":
    compare(__doc__, stretched=arms)
