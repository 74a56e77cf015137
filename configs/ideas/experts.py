"""Digits and solids in one model: one head, one twice as wide, and experts by a gate or a label, against two models.

    python configs/ideas/experts.py              # 2 cores, 1 thread: 0.5 min a seed; writes results/experts.csv

An embedding of a picture's 12 x 12 pixels by an MLP of 32 hidden units (or by two of them, as experts), against the
classes' names as words: 300 steps on 2,000 pictures of each set, or 150 steps for each of the two models. Scores are
the zero-shot accuracies on 1,000 digits and on the shapes of 400 solids, each among the classes of its set.

"experts, by the label": the domain in a sample's label sends its picture to an expert, in training and in the test.
"experts, by the label, tested by a gate": so in training, where a gate learns the domain, which the test does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from compare import Arms, compare
from from_memory import accuracy, embed, join, learn, read, words_of
from torch import Tensor, nn

from align import JointModel, Objective, Tower
from align.encoders import Precomputed
from align.heads import MLP, Experts
from align.losses import Balance, InfoNCE, Route
from align.model.domains import in_domain
from align.objective import Term
from align.preprocess import Array
from align.values import Batch

DIM, SIDE, STEPS = 32, 12, 300
ONE, WIDE = partial(MLP, hidden=32), partial(MLP, hidden=64)
KINDS = {"digits": "digit", "solids": "shape"}  # set -> the attribute that is asked for
LEARNED, TAUGHT = (partial(Experts, experts=2, heads=[ONE], top=top) for top in (0, 1))
LABELLED = partial(TAUGHT, attribute="domain", classes=[*KINDS])
GATED = partial(LABELLED, unlabelled="gate")
Head = Callable[[int, int], nn.Module]


class Data(NamedTuple):
    """Pictures with the names of their classes as words. Dicts are by set."""

    names: dict[str, list[str]]
    words: list[str]
    train: dict[str, Batch]
    test: dict[str, Batch]
    both: Batch


@cache
def read_data() -> Data:
    found = {(d, s): read(d, s, SIDE, 2000 if s == "train" else 1000) for d in KINDS for s in ("train", "test")}
    names = {d: sorted({label[kind] for label in found[d, "train"][1]}) for d, kind in KINDS.items()}
    words = [name for some in names.values() for name in some]
    made: dict[str, dict[str, Batch]] = {"train": {}, "test": {}}
    for (domain, split), (x, labels) in found.items():
        kept = [{KINDS[domain]: label[KINDS[domain]], "domain": domain} for label in labels]
        pixels = (x.flatten(1).float() / 255 - 0.4) / 0.3
        made[split][domain] = join(kept, image=pixels[:, None], text=words_of(kept, words))
    batches = made["train"].values()
    rows = {
        m: torch.cat([x for batch in batches if isinstance(x := batch[m].values, Tensor)]) for m in ("image", "text")
    }
    return Data(names, words, **made, both=join([label for batch in batches for label in batch.labels], **rows))


def fit_head(seed: int, head: Head, terms: dict[str, Term], data: Batch, steps: int) -> JointModel:
    """Return a trained model with a head on the pixels, which are one token."""
    words = len(read_data().words)
    image = Tower(Array([1, 3 * SIDE**2]), Precomputed(3 * SIDE**2), head)
    model = JointModel({"image": image, "text": Tower(Array([words]), Precomputed(words))}, DIM)
    every = {"pairs": Term(InfoNCE(), ["image", "text"]), **terms}
    learn(model, Objective(every, dim=DIM, batch=64, modalities=["image", "text"]), data, steps, seed)
    return model


def score(model: JointModel, domain: str) -> float:
    """Return the accuracy of a set's test pictures among its classes."""
    data = read_data()
    names, test = data.names[domain], data.test[domain]
    right = torch.tensor([names.index(label[KINDS[domain]]) for label in test.labels])
    classes = model.embed_values("text", torch.eye(len(data.words)))[[data.words.index(name) for name in names]]
    return accuracy(embed(model, "image", test), classes, right)


def arms(seed: int) -> Arms:
    data = read_data()

    def one(head: Head, terms: dict[str, Term], told: bool = False) -> dict[str, float]:
        model = fit_head(seed, head, terms, data.both, STEPS)
        return {f"{d}/accuracy": score(in_domain(model, d) if told else model, d) for d in KINDS}

    def two() -> dict[str, float]:
        return {f"{d}/accuracy": score(fit_head(seed, ONE, {}, data.train[d], STEPS // 2), d) for d in KINDS}

    def route() -> dict[str, Term]:
        return {"domain": Term(Route(2, "domain", [*KINDS]), ["image"])}

    return {
        "one head": lambda: one(ONE, {}),
        "one head, twice as wide": lambda: one(WIDE, {}),
        "experts, learned": lambda: one(LEARNED, {"balance": Term(Balance(2), ["image"], 0.01)}),
        "experts, taught": lambda: one(TAUGHT, route()),
        "experts, by the label": lambda: one(LABELLED, {}, told=True),
        "experts, by the label, tested by a gate": lambda: one(GATED, route()),
        "two models": two,
    }


if __name__ == "__main__":
    compare(__doc__, experts=arms)
