"""A picture tower beside captions, with masked tokens of a teacher, and without.

    python configs/ideas/masked.py               # 2 cores, 1 thread: 1 min a seed; writes results/masked.csv

`pointing` is the share of phrases whose nearest of the picture's 16 tokens lies in the box of the object.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from compare import Arms, compare
from fit import draw, fit
from scene_tensors import read_scenes
from torch import Tensor

from align.encoders import ImageCNN, Masked, TransformerText
from align.losses import InfoNCE, masked_tokens
from align.metrics import ranks, recall_at
from align.seeds import derive

STEPS, BATCH, DIM, CONTEXT, WEIGHT = 100, 64, 64, 32, 0.5


def compute_losses(image: Masked, text: TransformerText, loss: InfoNCE, seed: int, weight: float) -> Iterator[Tensor]:
    """Yield the losses of short captions, and of masked tokens with a weight."""
    scenes, ids = read_scenes("train"), torch.arange(BATCH)
    image.train(weight > 0)  # in evaluation mode nothing is masked
    for chosen in draw(len(scenes.image), BATCH, STEPS, torch.Generator().manual_seed(derive(seed, "batches"))):
        pooled, tokens, mask = image(scenes.image[chosen])
        caption = text(scenes.short[chosen][:, :CONTEXT]).pooled
        value = loss([F.normalize(pooled, dim=1), F.normalize(caption, dim=1)], [ids, ids])
        if weight:
            assert tokens is not None
            assert mask is not None
            value = value + weight * masked_tokens(tokens, mask)
        yield value


@torch.no_grad()
def score(image: Masked, text: TransformerText) -> dict[str, float]:
    """Return recall@1 of captions by pictures, and pointing."""
    scenes, features = read_scenes("test"), image.eval()(read_scenes("test").image)
    caption, part = (F.normalize(text(x[:, :CONTEXT]).pooled, dim=1) for x in (scenes.short, scenes.part))
    scores = F.normalize(features.pooled, dim=1) @ caption.T
    assert features.tokens is not None
    cells = F.normalize(features.tokens, dim=2)[scenes.owner] @ part[:, :, None]  # (R, 16, 1)
    return {
        "image_to_text/recall@1": recall_at(ranks(scores, torch.eye(len(scores), dtype=torch.bool)), 1),
        "pointing": float(lies_in(cells[..., 0].argmax(1), scenes.box).float().mean()),
    }


def lies_in(cell: Tensor, box: Tensor) -> Tensor:
    """Return (R,) bool, true where the middle of a cell (R,) of the grid of 4 x 4 lies in a box (R, 4)."""
    x, y = (cell % 4 + 0.5) / 4, (cell // 4 + 0.5) / 4
    return (box[:, 0] <= x) & (x <= box[:, 2]) & (box[:, 1] <= y) & (y <= box[:, 3])


def learn(weight: float, seed: int) -> dict[str, float]:
    """Train with a weight of the masked tokens, and score."""
    torch.manual_seed(derive(seed, "weights"))
    image = Masked(ImageCNN(DIM, widths=[16, 32], stem=2), [4, 4], momentum=0.98)
    text, loss = TransformerText(256, CONTEXT, DIM, 1, 4), InfoNCE()
    loss.start(DIM, 2, BATCH)
    fit(compute_losses(image, text, loss, seed, weight), [image, text, loss], 2e-3, decay=0.05)
    return score(image, text)


def arms(seed: int) -> Arms:
    return {"without": lambda: learn(0.0, seed), "masked": lambda: learn(WEIGHT, seed)}


if __name__ == "__main__":
    compare(__doc__, masked=arms)
