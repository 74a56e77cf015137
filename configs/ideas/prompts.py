"""Learned prompts: base and new classes after 1, 4 and 16 pictures a class.

    python configs/ideas/prompts.py              # 2 cores, 1 thread: 2 min a seed; writes results/prompts.csv

A picture and a text tower are trained on captions of solids, and frozen. A class is a color and a shape. Half of the
classes are base classes, of which a few pictures are given, the others are new. "words" asks with the class name alone,
"templates" with the mean over the generator's templates. "prompt" learns 8 vectors before the name by cross-entropy
(CoOp). "held" adds PromptSRC's regularisers: the prompted rows stay near those of the templates ("absolute" distance,
and the divergence of the logits), and the prompts of all epochs are averaged along a bell curve.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from compare import Arms, compare
from fit import fit
from in_process import train
from sets import find_member, read_set
from torch import Tensor, nn

from align.encoders import Prompted
from align.losses import regress
from align.quickstart.world import COLORS, SHAPES
from align.seeds import derive
from align.soup.shares import gaussian_shares

CLASSES = [f"{color} {shape}" for color, shape in itertools.product(COLORS, SHAPES)]
BASE = [i for i, name in enumerate(CLASSES) if derive(0, name) % 2]
NEW = [i for i in range(len(CLASSES)) if i not in BASE]
TEMPLATES = ["{}", "a {}", "a small {}", "a large {}", "a {}, medium", "a {} made of wood", "a {} made of glass"]
EPOCHS, BATCH, LR, NEAR, ALIKE = 20, 16, 2e-3, 25 / 64, 1.0  # PromptSRC's 25 of the mean over D, which is 64 here


@torch.no_grad()
def embed_pictures(model: Any, samples: list[Any]) -> tuple[Tensor, Tensor]:
    """Return the embeddings (N, D) and the classes (N,) of samples."""
    rows = model.embed(image=[find_member(sample, "image") for sample in samples])["image"]
    labels = [json.loads(sample["json"])["label"] for sample in samples]
    return rows, torch.tensor([CLASSES.index(f"{label['color']} {label['shape']}") for label in labels])


def embed_texts(model: Any, texts: list[str]) -> Tensor:
    """Return unit rows (n, D) with a gradient."""
    tower = model.towers.text
    ids = tower.preprocess.collate([tower.preprocess.eval(text) for text in texts])
    return F.normalize(tower(ids), dim=1)


def learn(model: Any, images: Tensor, labels: Tensor, fixed: Tensor, scale: float, *, held: bool, seed: int) -> None:
    """Train the prompt on rows of base classes. fixed: (C, D) rows of all classes by the templates."""
    prompt = model.towers.text.encoder.prompt
    draws, kept = torch.Generator().manual_seed(derive(seed, "batches")), []
    place = torch.full((len(CLASSES),), -1)
    place[BASE] = torch.arange(len(BASE))
    names, near = [CLASSES[i] for i in BASE], fixed[BASE]

    def compute_losses() -> Iterator[Tensor]:
        for _ in range(EPOCHS):
            for some in torch.randperm(len(images), generator=draws).split(BATCH):
                rows = embed_texts(model, names)
                logits = scale * images[some] @ rows.T
                loss = F.cross_entropy(logits, place[labels[some]])
                if held:
                    frozen = (scale * images[some] @ near.T).log_softmax(1)
                    loss = loss + NEAR * regress(rows, near, distance="absolute")
                    apart = F.kl_div(logits.log_softmax(1), frozen, reduction="batchmean", log_target=True)
                    loss = loss + ALIKE * apart
                yield loss
            kept.append(prompt.detach().clone())

    fit(compute_losses(), [nn.ParameterList([prompt])], LR, decay=0.0)
    if held:
        shares = gaussian_shares(len(kept), 0.75 * EPOCHS, 0.15 * EPOCHS)
        with torch.no_grad():
            prompt.copy_(sum(share * one for share, one in zip(shares, kept, strict=True)))


def score(rows: Tensor, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Return the accuracy among the base classes, among the new ones, and the harmonic mean of both."""
    found = {}
    for name, classes in (("base", BASE), ("new", NEW)):
        asked = torch.isin(labels, torch.tensor(classes))
        chosen = torch.tensor(classes)[(images[asked] @ rows[classes].T).argmax(1)]
        found[name] = float((chosen == labels[asked]).double().mean())
    mean = 2 * found["base"] * found["new"] / (found["base"] + found["new"])
    return {f"{name}/accuracy": value for name, value in {**found, "harmonic": mean}.items()}


def arms(seed: int) -> Arms:
    model = train("prompts", ["--tuning.freeze=[]", "--model.towers.text.encoder.length=1"], seed)
    inside = model.towers.text.encoder.encoder
    model.towers.text.encoder = inside
    model.requires_grad_(False)
    scale = float(model.terms[0].scale)
    images, labels = embed_pictures(model, read_set("solids", "train"))
    tests = embed_pictures(model, read_set("solids", "test"))
    with torch.no_grad():
        words = embed_texts(model, CLASSES)
        each = [embed_texts(model, [template.format(name) for name in CLASSES]) for template in TEMPLATES]
        fixed = F.normalize(torch.stack(each).mean(0), dim=1)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(derive(seed, "shots")))

    def prompt(shots: int, held: bool) -> Mapping[str, float]:
        chosen = torch.cat([order[labels[order] == i][:shots] for i in BASE])
        torch.manual_seed(derive(seed, "prompt"))
        model.towers.text.encoder = Prompted(inside, ids=[101, 35] * 4)
        learn(model, images[chosen], labels[chosen], fixed, scale, held=held, seed=seed)
        with torch.no_grad():
            return score(embed_texts(model, CLASSES), *tests)

    learned = {
        f"{'held' if held else 'prompt'}, {shots} a class": lambda shots=shots, held=held: prompt(shots, held)
        for shots, held in itertools.product((1, 4, 16), (False, True))
    }
    named = {"words": lambda: score(words, *tests), "templates": lambda: score(fixed, *tests)}
    return {**named, **learned}


if __name__ == "__main__":
    compare(__doc__, prompts=arms)
