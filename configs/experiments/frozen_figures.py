"""Figures of frozen_real.py: scores of heads on cached features, each with its chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.columns.opening import open_cache
from align.metrics import accuracy, mean_average_precision

Head = Callable[[Tensor], Tensor]
"""(n, W) features -> (n, D) embeddings."""
BRIDGES = {"helicopter": "airplane", "rooster": "bird", "sea waves": "ship"}
"""Class of sounds -> class of pictures that is near in words."""


class Figure(NamedTuple):
    """A score and the score of embeddings that say nothing."""

    value: float
    chance: float


class Table(NamedTuple):
    """Cached rows of one modality: (n, W) float32, and the class of each row."""

    x: Tensor
    names: list[str]

    def of(self, name: str) -> Tensor:
        """Return (n,) bool, true for the rows of a class."""
        return torch.tensor([each == name for each in self.names])


def read(column: str, shards: str | list[str], attribute: str | None) -> Table:
    """Return the rows of the shards of a column. attribute: the label that names a row's class. One row a sample.

    Of several rows of a sample, as captions, the mean is taken.
    """
    found = open_cache(column, shards=shards)
    reader = found.reader
    n = int(reader.first[-1])
    rows = found.rows(torch.arange(n).numpy())
    owner = torch.from_numpy(rows.owner)
    x = torch.zeros(n, found.info.width).index_add_(0, owner, rows.values.float())  # pyright: ignore
    x = x / torch.bincount(owner, minlength=n)[:, None]
    labels = [label for b in range(len(reader.blocks)) for label in reader.about(b).labels]
    return Table(x, [str(label[attribute]) if attribute else "" for label in labels])


def chance_of_ap(right: int, of: int) -> float:
    """Return the expected average precision of a random order of ``of`` candidates with ``right`` hits.

    Rank r is a hit with probability right / of, and each of the r - 1 before it with (right - 1) / (of - 1).
    """
    steps = range(1, of + 1)
    return sum((1 + (r - 1) * (right - 1) / (of - 1)) / r for r in steps) / of


def zeroshot(rows: Tensor, names: list[str], prompts: Mapping[str, Tensor]) -> Figure:
    """Return how often the prompt of a row's class is first."""
    classes = list(prompts)
    target = torch.tensor([classes.index(name) for name in names])
    scores = F.normalize(rows, dim=1) @ torch.stack([prompts[c] for c in classes]).T
    return Figure(accuracy(scores, target), 1 / len(classes))


def retrieval(query: Tensor, gallery: Tensor, hits: Tensor) -> Figure:
    """Return the mean average precision. hits: (c,) of the gallery, the same for every query."""
    scores = F.normalize(query, dim=1) @ F.normalize(gallery, dim=1).T
    value = mean_average_precision(scores, hits.expand(len(query), -1))
    return Figure(value, chance_of_ap(int(hits.sum()), len(hits)))


def retrieval_of_classes(query: Tensor, names: list[str], gallery: Table) -> Figure:
    """Return the mean average precision of all queries, where an item of the query's class is a hit."""
    scores = F.normalize(query, dim=1) @ F.normalize(gallery.x, dim=1).T
    hits = torch.stack([gallery.of(name) for name in names])
    chances = [chance_of_ap(int(h.sum()), len(h)) for h in hits]
    return Figure(mean_average_precision(scores, hits), sum(chances) / len(chances))


def precision(query: Tensor, gallery: Tensor, hits: Tensor, k: int = 10) -> Figure:
    """Return the mean share of hits among the k nearest."""
    scores = F.normalize(query, dim=1) @ F.normalize(gallery, dim=1).T
    best = scores.topk(k, dim=1).indices
    return Figure(float(hits[best].float().mean()), float(hits.float().mean()))


def emergent(pictures: Table, sounds: Table, image: Head, audio: Head) -> dict[str, Figure]:
    """Return the figures of pictures and sounds that no term ever saw together."""
    seen, heard = image(pictures.x), audio(sounds.x)
    dogs = retrieval(seen[pictures.of("dog")], heard, sounds.of("dog bark"))
    found = {"dog picture → dog sound, mAP": dogs}
    for sound, picture in BRIDGES.items():
        found[f"{sound} → {picture}, P@10"] = precision(heard[sounds.of(sound)], seen, pictures.of(picture))
    three = [found[f"{a} → {b}, P@10"] for a, b in BRIDGES.items()]
    found["the three, P@10"] = Figure(*(sum(x) / len(three) for x in zip(*three, strict=True)))
    return found


def unseen(rows: Tensor, name: str, prompts: Mapping[str, Tensor]) -> dict[str, Figure]:
    """Return how often a class that the head never saw is first among all, and before one other."""
    scores = F.normalize(rows, dim=1) @ torch.stack([*prompts.values()]).T  # (n, classes)
    right = scores[:, list(prompts).index(name)][:, None]
    others = scores[:, [i for i, c in enumerate(prompts) if c != name]]
    return {
        "first of ten": Figure(float((right > others).all(1).float().mean()), 1 / len(prompts)),
        "two-way": Figure(float((right > others).float().mean()), 0.5),
    }
