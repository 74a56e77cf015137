"""A picture tower beside captions, with masked tokens of a teacher, and without.

    python configs/ideas/masked.py                  # writes configs/ideas/results/masked.csv, 3 min
    python configs/ideas/run.py masked --table      # prints the figures of that file

`pointing` is the share of phrases whose nearest of the picture's 16 tokens lies in the box of the object.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from run import HERE, Row, table, write_rows
from scene_tensors import read_scenes
from torch import Tensor

from align.encoders import ImageCNN, Masked, TransformerText
from align.losses import InfoNCE, masked_tokens
from align.metrics import ranks, recall_at
from align.seeds import derive

STEPS, BATCH, DIM, CONTEXT, WEIGHT = 100, 64, 64, 32, 0.5


def fit(image: Masked, text: TransformerText, seed: int, weight: float) -> None:
    """Train on short captions, and on masked tokens with a weight."""
    scenes, loss = read_scenes("train"), InfoNCE()
    loss.start(DIM, 2, BATCH)
    every = [p for part in (image, text, loss) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(every, lr=2e-3, weight_decay=0.05)
    draw, ids = torch.Generator().manual_seed(derive(seed, "batches")), [torch.arange(BATCH)] * 2
    for _ in range(STEPS):
        chosen = torch.randperm(len(scenes.image), generator=draw)[:BATCH]
        image.train(weight > 0)
        pooled, tokens, mask = image(scenes.image[chosen])
        caption = text(scenes.short[chosen][:, :CONTEXT]).pooled
        value = loss([F.normalize(pooled, dim=1), F.normalize(caption, dim=1)], ids)
        if weight:
            assert tokens is not None
            assert mask is not None
            value = value + weight * masked_tokens(tokens, mask)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.clamp_()


@torch.no_grad()
def measure(image: Masked, text: TransformerText) -> dict[str, float]:
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


def main() -> None:
    rows = []
    for seed in range(3):
        for arm, weight in (("without", 0.0), ("masked", WEIGHT)):
            torch.manual_seed(derive(seed, "weights"))
            image = Masked(ImageCNN(DIM, widths=[16, 32], stem=2), [4, 4], momentum=0.98)
            text, start = TransformerText(256, CONTEXT, DIM, 1, 4), time.monotonic()
            fit(image, text, seed, weight)
            seconds, found = round(time.monotonic() - start, 1), measure(image, text)
            rows += [Row(arm, seed, score, value, seconds) for score, value in found.items()]
            print(arm, seed, seconds, found, flush=True)
    write_rows(HERE / "results" / "masked.csv", rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
