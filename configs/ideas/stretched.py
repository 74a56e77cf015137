"""A text tower of short captions that learns long ones: cut, stretched, and with the short captions' components.

    python configs/ideas/stretched.py                  # writes configs/ideas/results/stretched.csv, 3 min
    python configs/ideas/run.py stretched --table      # prints the figures of that file

A picture and a text tower are trained on short captions, with 32 positions. From these weights each arm trains on:
"cut" on long captions without their end, "stretched" with 80 positions of which the first 20 stay, "components" so too,
and the short captions are compared with the 16 largest components of the pictures' rows. "before" trains no more.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
import torch.nn.functional as F
from run import HERE, Row, table, write_rows
from scene_tensors import Pixels, Scenes, encode, read_scenes
from torch import Tensor, nn

from align.encoders import TransformerText
from align.encoders.positions import stretch_positions
from align.losses import InfoNCE, PrimaryComponents
from align.metrics import mean_average_precision, ranks, recall_at
from align.seeds import derive

STEPS, BATCH, TABLE, CONTEXT, KEEP, DIM, COMPONENTS = 200, 64, 32, 80, 20, 64, 16
ARMS = {"before": None, "cut": (False, False), "stretched": (True, False), "components": (True, True)}


class Pair(nn.Module):
    """A picture and a text tower."""

    def __init__(self) -> None:
        super().__init__()
        self.image = Pixels(DIM)
        self.text = TransformerText(256, TABLE, DIM, 1, 4)

    def embed(self, modality: str, x: Tensor) -> Tensor:
        x = x[:, : self.text.context] if modality == "text" else x
        return F.normalize(getattr(self, modality)(x).pooled, dim=1)


def fit(model: Pair, scenes: Scenes, captions: list[str], losses: list[Any], seed: int) -> None:
    """Train on pictures and some captions of each, a loss for each kind of caption."""
    for loss in losses:
        loss.start(DIM, 2, BATCH)
    every = [*model.parameters(), *(p for loss in losses for p in loss.parameters())]
    optimizer = torch.optim.AdamW(every, lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    draw, ids = torch.Generator().manual_seed(derive(seed, "batches")), [torch.arange(BATCH)] * 2
    for _ in range(STEPS):
        chosen = torch.randperm(len(scenes.image), generator=draw)[:BATCH]
        image = model.embed("image", scenes.image[chosen])
        texts = [model.embed("text", getattr(scenes, name)[chosen]) for name in captions]
        value = torch.stack([loss([image, text], ids) for loss, text in zip(losses, texts, strict=True)]).sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        for loss in losses:
            loss.clamp_()


@torch.no_grad()
def measure(model: Pair) -> dict[str, float]:
    """Return recall@1 of long and short captions by pictures, and the mean average precision of colors."""
    model.eval()
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
    model.train()
    return found


def main() -> None:
    rows = []
    for seed in range(3):
        torch.manual_seed(derive(seed, "weights"))
        first = Pair()
        begin = time.monotonic()
        fit(first, read_scenes("train"), ["short"], [InfoNCE()], seed)
        for arm, how in ARMS.items():
            model, start = copy.deepcopy(first), time.monotonic() if how else begin
            if how:
                stretched, components = how
                if stretched:
                    stretch_positions(model.text, CONTEXT, KEEP)
                short = PrimaryComponents(InfoNCE(), COMPONENTS, "0") if components else InfoNCE()
                fit(model, read_scenes("train"), ["long", "short"], [InfoNCE(), short], seed)
            seconds = round(time.monotonic() - start, 1)
            rows += [Row(arm, seed, score, value, seconds) for score, value in measure(model).items()]
            print(arm, seed, seconds, rows[-3:], flush=True)
    write_rows(HERE / "results" / "stretched.csv", rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
