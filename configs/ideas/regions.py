"""Regions and mosaics against captions alone, in one process: pictures decoded one time, texts as bags of words.

    python configs/ideas/regions.py              # 2 cores, 1 thread: 1 min a seed; writes results/regions.csv and
                                                 # mosaic.csv

Three arms with the same towers: captions of the whole picture alone, with regions and phrases beside them, and with
mosaics of four pictures. All are asked for the regions of the test scenes, which the first and the last never saw.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from compare import Arms, compare
from fit import fit
from sets import read_set
from torch import Tensor

from align import JointModel, Objective, Term, Tower
from align.embedding.tables import concatenate, vectors
from align.encoders import ImageCNN, Mosaic, Regions, Vector
from align.evaluation.region_ranks import find_ranks, number_phrases, point
from align.evaluation.regions import read_places
from align.heads import Identity
from align.losses import InfoNCE
from align.metrics import ranks
from align.preprocess import Array, Image
from align.values import Batch, Rows

STEPS, BATCH, DIM, RATE = 300, 64, 64, 2e-3


class Scenes:
    """Scenes as tensors. words: the vocabulary, made of these texts where it is None."""

    def __init__(self, split: str, words: dict[str, int] | None = None):
        image, samples = Image(64, mean="plain"), read_set("scenes", split)
        self.images = torch.stack([image.row(sample["image.png"]) for sample in samples])
        regions = [json.loads(sample["json"])["regions"] for sample in samples]
        self.phrases = [[r["text"] for r in some] for some in regions]
        captions = [sample["text.txt"].decode().splitlines()[0] for sample in samples]
        texts = [*captions, *(text for some in self.phrases for text in some)]
        self.words = words or {word: i for i, word in enumerate(sorted({w for t in texts for w in list_words(t)}))}
        self.captions = torch.stack([self.bag(text) for text in captions])
        self.boxes = [torch.tensor([r["box"] for r in some]) for some in regions]
        self.bags = [torch.stack([self.bag(text) for text in some]) for some in self.phrases]
        self.numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}

    def bag(self, text: str) -> Tensor:
        """Return (words,) counts."""
        out = torch.zeros(len(self.words))
        for word in list_words(text):
            if word in self.words:
                out[self.words[word]] += 1
        return out

    def batch(self, chosen: list[int]) -> Batch:
        """Return a batch of these scenes, with their regions and phrases."""
        sample = torch.arange(len(chosen))
        sizes = torch.tensor([len(self.boxes[i]) for i in chosen])
        owner, part = sample.repeat_interleave(sizes), torch.cat([torch.arange(n) for n in sizes.tolist()])
        content = torch.tensor([self.numbers[text] for i in chosen for text in self.phrases[i]])
        rows = {
            "image": Rows(self.images[chosen], sample),
            "text": Rows(self.captions[chosen], sample),
            "region": Rows({"box": torch.cat([self.boxes[i] for i in chosen])}, owner, part=part),
            "region_text": Rows(torch.cat([self.bags[i] for i in chosen]), owner, part=part, content=content),
        }
        return Batch(rows, ids=[str(i) for i in chosen], position=sample)


def list_words(text: str) -> list[str]:
    return text.replace(",", " ").lower().split()


@cache
def read_scenes(split: str) -> Scenes:
    """Return the scenes of a split, with the words of the training captions."""
    return Scenes(split, None if split == "train" else read_scenes("train").words)


@cache
def learn(term: str, seed: int) -> dict[str, float]:
    """Train with a term beside the captions' one, "" for none, and score."""
    torch.manual_seed(seed)
    scenes = read_scenes("train")
    words = len(scenes.words)
    towers = {
        "image": Tower(Image(64, mean="plain"), ImageCNN(DIM, widths=[32, 64], stem=4)),
        "text": Tower(Array((words,)), Vector(words, DIM, depth=1)),
        "region": Tower(encoder=Regions(), head=Identity),
        "region_text": Tower(Array((words,))),
        "mosaic": Tower(encoder=Mosaic(), head=Identity),
    }
    if term != "mosaic":
        del towers["mosaic"]
    model = JointModel(towers, DIM, share={"region_text": "text"})
    model.towers["region_text"].head = model.towers["text"].head  # one space for captions and phrases
    terms = {"clip": Term(InfoNCE(), ["image", "text"])}
    pairs = {"regions": ["region", "region_text"], "mosaic": ["mosaic", "text"]}
    if term:
        terms[term] = Term(InfoNCE(), pairs[term])
    objective = Objective(terms, dim=DIM, batch=BATCH, modalities=model.modalities)
    draws = torch.Generator().manual_seed(seed)

    def compute(step: int) -> Tensor:
        chosen = torch.randint(len(scenes.images), (BATCH,), generator=draws).tolist()
        mosaic = {"mosaic": torch.Generator().manual_seed(seed * STEPS + step)}
        return objective(model(scenes.batch(chosen), generators=mosaic))[0]

    fit(map(compute, range(STEPS)), [model, objective], RATE, cycle=STEPS, warm=0.1)
    return score(model)


@torch.no_grad()
def score(model: JointModel) -> dict[str, float]:
    """Return the scores of ``align.evaluation.RegionRecall``, and the recall of the whole picture for its caption."""
    scenes = read_scenes("test")
    places = [range(start, min(start + 100, len(scenes.images))) for start in range(0, len(scenes.images), 100)]
    made = []
    for some in places:
        batch = scenes.batch([*some])
        out = read_places(model, batch, region="region", phrase="region_text", of="image")
        out.rows["region_text"] = out["region_text"]._replace(content=batch["region_text"].content)
        for m in out:
            out.rows[m] = out[m]._replace(tokens=None, mask=None)
        made.append(out)
    whole = concatenate(made)
    phrases, regions = whole["region_text"], whole["region"]
    asks, theirs = number_phrases(phrases, regions)
    values: dict[str, Any] = {m: vectors(whole, m) for m in whole}
    found = find_ranks(values["region_text"], phrases.sample, asks, values["region"], regions.sample, theirs)
    hit, share = point(values["region_text/place"], phrases.sample, asks, values["region/box"], regions.sample, theirs)
    rank = ranks(values["text"] @ values["image"].T, torch.eye(len(values["image"]), dtype=torch.bool))
    return {
        "regions/picture/recall@1": float((found.within == 1).double().mean()),
        "regions/recall@5": float(((found.rank > 0) & (found.rank <= 5)).double().mean()),
        "regions/pointing": float(hit.double().mean()),
        "text_to_image/recall@1": float((rank == 1).double().mean()),
        "regions/picture/chance": float(found.chance.double().mean()),
        "regions/pointing/chance": float(share.double().mean()),
    }


def compare_with(term: str) -> Callable[[int], Arms]:
    """Return the arms without and with a term."""
    return lambda seed: {"without": lambda: learn("", seed), "with": lambda: learn(term, seed)}


if __name__ == "__main__":
    compare(__doc__, regions=compare_with("regions"), mosaic=compare_with("mosaic"))
