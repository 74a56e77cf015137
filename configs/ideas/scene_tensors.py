"""Pictures and captions of the scenes as plain tensors, for comparisons that train in seconds."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, NamedTuple

import torch
from sets import read_set
from torch import Tensor, nn

from align.preprocess import Image, Tokens
from align.values import Features

CONTEXT = 80
"""Tokens of the longest captions."""


class Pixels(nn.Module):
    """A picture tower of two layers: (n, 3, 16, 16) -> (n, width). It learns colors and places in seconds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, 256), nn.GELU(), nn.Linear(256, width))

    def forward(self, values: Tensor) -> Features:
        return Features(self.net(values))


class Scenes(NamedTuple):
    """N scenes. ids of a text: (N, 80), 0 is padding."""

    image: Tensor  # (N, 3, 16, 16)
    short: Tensor
    long: Tensor
    part: Tensor  # (R, 80) phrases of single objects
    owner: Tensor  # (R,) scene of each phrase
    box: Tensor  # (R, 4) left, top, right, bottom of its object, as shares of the picture
    labels: list[dict[str, list[str]]]


@cache
def read_scenes(split: str) -> Scenes:
    """Return the scenes of a split."""
    picture, tokens = Image(size=16, mean="half"), Tokens(context=CONTEXT)
    rows: dict[str, list[Any]] = {name: [] for name in Scenes._fields}
    for i, sample in enumerate(read_set("scenes", split)):
        about = json.loads(sample["json"])
        rows["image"].append(picture.eval(picture.decode(sample["image.png"])))
        rows["short"].append(tokens.eval(sample["text.txt"].decode().splitlines()[0]))
        rows["long"].append(tokens.eval(sample["long.txt"].decode()))
        for region in about["regions"]:
            rows["part"].append(tokens.eval(region["text"]))
            rows["owner"].append(i)
            rows["box"].append(region["box"])
        rows["labels"].append(about["label"])
    image = picture.device(picture.collate(rows["image"]))
    texts = {name: to_words(torch.stack(rows[name])) for name in ("short", "long", "part")}
    return Scenes(
        image, owner=torch.tensor(rows["owner"]), box=torch.tensor(rows["box"]), labels=rows["labels"], **texts
    )


@cache
def vocabulary() -> dict[int, int]:
    """Return CLIP's token -> a small number, for the words of the generated captions. It grows as texts are read."""
    return {0: 0}


def to_words(ids: Tensor) -> Tensor:
    """Return CLIP's ids as small numbers. At most 256 different words are there."""
    known = vocabulary()
    return ids.clone().apply_(lambda token: known.setdefault(int(token), len(known)))


def encode(texts: list[str]) -> Tensor:
    """Return (n, 80) ids of texts."""
    tokens = Tokens(context=CONTEXT)
    return to_words(torch.stack([tokens.eval(text) for text in texts]))
