"""Deep CCA and a Wasserstein distance as terms between series of accelerations and words.

    python configs/ideas/series_terms.py         # 2 cores, 1 thread: 2.5 min a seed; writes results/deep_cca.csv and
                                                 # wasserstein.csv

The series and words are those of ``shaken_words.py``, 1,000 to train on and 500 to test on. An answer is right if it is
of the same shape, material and size: colour cannot be felt. The towers and terms are those of ``deep_cca.yaml`` and
``wasserstein.yaml``, trained here in one process: InfoNCE alone, with the term beside it, and the term alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from compare import Arms, compare
from fit import draw, take, train
from sets import open_set
from torch import Tensor

from align.data import Loader
from align.encoders import Series, TransformerText
from align.losses import DeepCCA, InfoNCE, Loss, Wasserstein
from align.metrics import mean_average_precision, ranks, recall_at
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.preprocess import Bytes, Signal
from align.values import Batch

PAIR = ["series", "text"]
STEPS, BATCH, DIM = 120, 64, 32


def make_model() -> JointModel:
    """Return the towers of ``deep_cca.yaml``."""
    towers = {
        "series": Tower(Signal(3, 256), Series(3, 256, width=48, depth=1, patch=8)),
        "text": Tower(Bytes(48), TransformerText(context=48, width=48, depth=1, heads=4)),
    }
    return JointModel(towers, DIM)


@cache
def read_split(split: str) -> Batch:
    """Return all samples of a split as one batch."""
    shards = open_set("shaken_words", split)
    (whole,) = Loader(shards, make_model().preprocess, batch=len(shards), train=False)
    return whole


def learn(seed: int, **terms: Term) -> dict[str, float]:
    """Train with some terms, and score both directions on the test split."""
    learned, test = read_split("train"), read_split("test")
    torch.manual_seed(seed)  # reading made towers too
    model = make_model()
    objective = Objective(terms, dim=DIM, batch=BATCH, modalities=PAIR)
    picked = draw(learned.size, BATCH, STEPS, torch.Generator().manual_seed(seed))
    train(model, objective, (take(learned, some, stable=False) for some in picked), STEPS)
    with torch.no_grad():
        made = model(test)
    a, b = (made[m].values for m in PAIR)
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    felt = [tuple(label[name] for name in ("shape", "material", "size")) for label in test.labels]
    numbers = torch.tensor([sorted({*felt}).index(each) for each in felt])
    hits = numbers[:, None] == numbers
    both = a @ b.T, b @ a.T
    return {
        "series_text/recall@1": sum(recall_at(ranks(s, hits), 1) for s in both) / 2,
        "series_text/map": sum(mean_average_precision(s, hits) for s in both) / 2,
    }


@cache
def learn_without(seed: int) -> dict[str, float]:
    """Return the scores of InfoNCE alone."""
    return learn(seed, clip=Term(InfoNCE(), PAIR))


def compare_with(make: Callable[[], Loss], weight: float) -> Callable[[int], Arms]:
    """Return the arms of a loss: InfoNCE without it, InfoNCE with it by its weight, and the loss alone."""
    return lambda seed: {
        "without": lambda: learn_without(seed),
        "with": lambda: learn(seed, clip=Term(InfoNCE(), PAIR), more=Term(make(), PAIR, weight)),
        "alone": lambda: learn(seed, more=Term(make(), PAIR)),
    }


if __name__ == "__main__":
    compare(__doc__, deep_cca=compare_with(DeepCCA, 0.1), wasserstein=compare_with(Wasserstein, 1.0))
