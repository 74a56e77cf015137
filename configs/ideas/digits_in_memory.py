"""Pictures of digits as one tensor, for comparisons that train small towers in one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from fit import draw
from sets import find_shards
from torch import Tensor

from align.data import Loader, Shards
from align.encoders import ImageCNN, TransformerText
from align.model import JointModel, Tower
from align.preprocess import Bytes, Image, Preprocess
from align.values import Batch, Rows

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@cache
def read_digits(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Return pictures (n, 3, 28, 28) of the first ``count`` samples of a split, and their digits (n,)."""
    shards = Shards(find_shards("digits", split)[: -(-count // 1000)], shuffle=False)
    batch = next(iter(Loader(shards, {"image": Image(28)}, batch=count, train=False)))
    pictures = batch["image"].values
    assert isinstance(pictures, Tensor)
    return pictures, torch.tensor([NAMES.index(label["digit"]) for label in batch.labels])


def make_towers(text: Preprocess | None = None) -> dict[str, Tower]:
    """Return towers of pictures and texts, without training. text: reads the texts."""
    return {
        "image": Tower(Image(28), ImageCNN(64, widths=[8, 16, 32], stem=2)),
        "text": Tower(text or Bytes(32), TransformerText(context=32, width=32, depth=1, heads=2)),
    }


def make_batch(pictures: Tensor, digits: Tensor, text: Preprocess, generator: torch.Generator | None) -> Batch:
    """Return a batch of pictures with the names of their digits. generator: reads the texts as in training."""
    n = torch.arange(len(digits))
    words = text.collate([text.row(NAMES[d], generator) for d in digits.tolist()])
    rows = {"image": Rows(pictures, n), "text": Rows(words, n)}
    return Batch(rows, [str(i) for i in n.tolist()], n, [{"digit": NAMES[d]} for d in digits.tolist()], group=digits)


def draw_batches(
    pictures: Tensor, digits: Tensor, text: Preprocess, steps: int, size: int, seed: int
) -> Iterator[Batch]:
    """Yield batches of samples drawn anew in each step."""
    draws = torch.Generator().manual_seed(seed)
    for some in draw(len(digits), size, steps, draws):
        yield make_batch(pictures[some], digits[some], text, draws)


def embed_pictures(model: JointModel, pictures: Tensor) -> Tensor:
    """Return (n, D)."""
    return torch.cat([model.embed_values("image", some) for some in pictures.split(250)])


def accuracy(model: JointModel, rows: Tensor, texts: list[str], right: Tensor) -> float:
    """Return the share of rows (n, D) of pictures whose nearest text is the right one, (n,)."""
    return float(((rows @ model.embed(text=texts)["text"].T).argmax(1) == right).double().mean())
