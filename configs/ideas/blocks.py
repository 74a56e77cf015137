"""Long captions in blocks of 16 tokens, against the first 16 alone, and against all at once.

    python configs/ideas/blocks.py               # 2 cores, 1 thread: 1 min a seed; writes results/blocks.csv

Pictures and phrases of single objects are trained against long captions. An item is a long caption, a part of it the
phrase of one of its objects. "cut" reads 16 of 80 tokens, "whole" all of them, "mean" the mean of five blocks, "blocks"
a transformer over the five. `part_to_block` asks which of the item's blocks holds the object that a phrase names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from compare import Arms, compare
from fit import draw, fit
from scene_tensors import CONTEXT, Pixels, Scenes, encode, read_scenes
from sets import read_set
from torch import Tensor, nn

from align.encoders import Blocks, TransformerText
from align.losses import InfoNCE
from align.metrics import ranks, recall_at
from align.seeds import derive

STEPS, BATCH, DIM, SIZE = 200, 64, 64, 16
PIECES = CONTEXT // SIZE


def make(arm: str) -> Any:
    """Return the encoder of long captions."""
    if arm in ("cut", "whole"):
        return TransformerText(256, SIZE if arm == "cut" else CONTEXT, DIM, 1, 4)
    return Blocks(TransformerText(256, SIZE, DIM, 1, 4), PIECES, depth=int(arm == "blocks"))


class Three(nn.Module):
    """Towers of pictures, of long captions and of phrases."""

    def __init__(self, arm: str) -> None:
        super().__init__()
        self.image = Pixels(DIM)
        self.long = make(arm)
        self.part = TransformerText(256, SIZE, DIM, 1, 4)

    def embed(self, name: str, x: Tensor) -> Tensor:
        encoder = getattr(self, name)
        return F.normalize(encoder(x if name == "image" else x[:, : encoder.context]).pooled, dim=1)


def compute_losses(model: Three, losses: list[InfoNCE], seed: int) -> Iterator[Tensor]:
    """Yield the losses of long captions with pictures, and with phrases, of which a scene has several."""
    scenes, ids = read_scenes("train"), torch.arange(BATCH)
    for chosen in draw(len(scenes.image), BATCH, STEPS, torch.Generator().manual_seed(derive(seed, "batches"))):
        place = torch.full((len(scenes.image),), -1)
        place[chosen] = ids
        parts = (place[scenes.owner] >= 0).nonzero()[:, 0]
        long = model.embed("long", scenes.long[chosen])
        image, part = model.embed("image", scenes.image[chosen]), model.embed("part", scenes.part[parts])
        yield losses[0]([image, long], [ids, ids]) + losses[1]([part, long], [place[scenes.owner[parts]], ids])


@cache
def named_shapes() -> list[str]:
    """Return the shape of the object that each phrase of the test split names."""
    found = [json.loads(sample["json"]) for sample in read_set("scenes", "test")]
    return [region["label"]["shape"] for about in found for region in about["regions"]]


def find_blocks(scenes: Scenes) -> Tensor:
    """Return (R, blocks) bool, true for a block of a phrase's item that holds the name of the phrase's shape."""
    names = {shape: encode([shape])[0] for shape in set(named_shapes())}
    pieces, holds = scenes.long[scenes.owner].view(-1, PIECES, SIZE), []
    for piece, shape in zip(pieces, named_shapes(), strict=True):
        word = names[shape][1 : int((names[shape] > 0).sum()) - 1]  # without the marks of begin and end
        holds.append(torch.stack([(piece == token).any(1) for token in word]).all(0))
    return torch.stack(holds)


@torch.no_grad()
def score(model: Three) -> dict[str, float]:
    """Return recall@1 of long captions by pictures and by phrases, and the share of phrases that find their block."""
    scenes = read_scenes("test")
    long, part = model.embed("long", scenes.long), model.embed("part", scenes.part)
    by_image = ranks(model.embed("image", scenes.image) @ long.T, torch.eye(len(long), dtype=torch.bool))
    by_part = ranks(part @ long.T, scenes.owner[:, None] == torch.arange(len(long)))
    found = {"image_to_long/recall@1": recall_at(by_image, 1), "part_to_long/recall@10": recall_at(by_part, 10)}
    if isinstance(model.long, Blocks):
        features = model.long(scenes.long)
        assert features.tokens is not None
        assert features.mask is not None
        pieces = F.normalize(features.tokens, dim=2)[scenes.owner]  # (R, blocks, D)
        scores = (pieces @ part[:, :, None])[..., 0].masked_fill(~features.mask[scenes.owner], -2)
        holds, seen = find_blocks(scenes), features.mask[scenes.owner].sum(1)
        one = holds.sum(1) == 1
        found["part_to_block/accuracy"] = float(holds.gather(1, scores.argmax(1)[:, None])[one, 0].float().mean())
        found["part_to_block/chance"] = float((1 / seen[one]).mean())
    return found


def learn(arm: str, seed: int) -> dict[str, float]:
    """Train one arm, and score it."""
    torch.manual_seed(derive(seed, "weights"))
    model, losses = Three(arm), [InfoNCE(), InfoNCE()]
    for loss in losses:
        loss.start(DIM, 2, BATCH)
    fit(compute_losses(model, losses, seed), [model, *losses], 2e-3, cycle=STEPS)
    return score(model)


def arms(seed: int) -> Arms:
    return {arm: lambda arm=arm: learn(arm, seed) for arm in ("cut", "whole", "mean", "blocks")}


if __name__ == "__main__":
    compare(__doc__, blocks=arms)
