"""Digits and solids in one model: one head, one twice as wide, and experts by a gate or a label, against two models.

    python configs/ideas/experts.py                     # writes configs/ideas/results/experts.csv
    python configs/ideas/run.py experts --table

An embedding of a picture's 12 x 12 pixels by an MLP of 32 hidden units (or by two of them, as experts), against the
classes' names as words: 300 steps on 2,000 pictures of each set, or 150 steps for each of the two models. Scores are
the zero-shot accuracies on 1,000 digits and on the shapes of 400 solids, each among the classes of its set.

"experts, by the label": the domain in a sample's label sends its picture to an expert, in training and in the test.
"experts, by the label, tested by a gate": so in training, where a gate learns the domain, which the test does not know.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from from_memory import accuracy, compare, embed, join, read, train, words_of
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
Head = Callable[[int, int], nn.Module]


def main() -> None:
    names: dict[str, list[str]] = {}
    data: dict[str, Batch] = {}
    test: dict[str, Batch] = {}
    found = {(d, s): read(d, s, SIDE, 2000 if s == "train" else 1000) for d in KINDS for s in ("train", "test")}
    for domain, kind in KINDS.items():
        names[domain] = sorted({label[kind] for label in found[domain, "train"][1]})
    words = [name for some in names.values() for name in some]
    for (domain, split), (x, labels) in found.items():
        kept = [{KINDS[domain]: label[KINDS[domain]], "domain": domain} for label in labels]
        pixels = (x.flatten(1).float() / 255 - 0.4) / 0.3
        (data if split == "train" else test)[domain] = join(kept, image=pixels[:, None], text=words_of(kept, words))
    both = join(
        [label for batch in data.values() for label in batch.labels],
        **{
            m: torch.cat([x for batch in data.values() if isinstance(x := batch[m].values, Tensor)])
            for m in ("image", "text")
        },
    )

    def fit(seed: int, head: Head, terms: dict[str, Term], of: Batch, steps: int) -> JointModel:
        image = Tower(Array([1, 3 * SIDE**2]), Precomputed(3 * SIDE**2), head)  # a token
        model = JointModel({"image": image, "text": Tower(Array([len(words)]), Precomputed(len(words)))}, DIM)
        made = {"pairs": Term(InfoNCE(), ["image", "text"]), **terms}
        train(model, Objective(made, dim=DIM, batch=64, modalities=["image", "text"]), of, steps, seed)
        return model

    def score(model: JointModel, domain: str) -> float:
        at = [words.index(name) for name in names[domain]]
        right = torch.tensor([names[domain].index(label[KINDS[domain]]) for label in test[domain].labels])
        classes = model.embed_values("text", torch.eye(len(words)))[at]
        return accuracy(embed(model, "image", test[domain]), classes, right)

    def one(seed: int, head: Head, make: Callable[[], dict[str, Term]] = dict, told: bool = False) -> dict[str, float]:
        model = fit(seed, head, make(), both, STEPS)
        return {f"{d}/accuracy": score(in_domain(model, d) if told else model, d) for d in KINDS}

    def two(seed: int) -> dict[str, float]:
        return {f"{d}/accuracy": score(fit(seed, ONE, {}, data[d], STEPS // 2), d) for d in KINDS}

    learned, taught = partial(Experts, experts=2, heads=[ONE]), partial(Experts, experts=2, heads=[ONE], top=1)
    labelled = partial(Experts, experts=2, heads=[ONE], top=1, attribute="domain", classes=[*KINDS])
    gated = partial(labelled, unlabelled="gate")

    def route() -> dict[str, Term]:
        return {"domain": Term(Route(2, "domain", [*KINDS]), ["image"])}

    compare(
        "experts",
        {
            "one head": lambda seed: one(seed, ONE),
            "one head, twice as wide": lambda seed: one(seed, WIDE),
            "experts, learned": lambda seed: one(seed, learned, lambda: {"balance": Term(Balance(2), ["image"], 0.01)}),
            "experts, taught": lambda seed: one(seed, taught, route),
            "experts, by the label": lambda seed: one(seed, labelled, told=True),
            "experts, by the label, tested by a gate": lambda seed: one(seed, gated, route),
            "two models": two,
        },
    )


KINDS = {"digits": "digit", "solids": "shape"}

if __name__ == "__main__":
    main()
