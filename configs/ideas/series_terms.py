"""Deep CCA and a Wasserstein distance as terms between series of accelerations and words.

    python configs/ideas/series_terms.py             # 3 seeds, writes results/deep_cca.csv and results/wasserstein.csv
    python configs/ideas/run.py deep_cca --table

The series and words are those of ``shaken_words.py``, 1,000 to train on and 500 to test on. An answer is right if it is
of the same shape, material and size: colour cannot be felt. The towers and terms are those of ``deep_cca.yaml`` and
``wasserstein.yaml``, trained here in one process: InfoNCE alone, with the term beside it, and the term alone.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from joined import take, train
from run import HERE, Row, table, write_rows
from shaken_words import write
from torch import Tensor

from align.data import Loader, Shards
from align.encoders import Series, TransformerText
from align.losses import DeepCCA, InfoNCE, Wasserstein
from align.metrics import mean_average_precision, ranks, recall_at
from align.model import JointModel, Tower
from align.objective import Objective, Term
from align.preprocess import Bytes, Signal
from align.values import Batch

SHARDS = Path("shards/shaken_words")
PAIR = ["series", "text"]
STEPS, BATCH, DIM = 120, 64, 32
TERMS = {"deep_cca": (DeepCCA, 0.1), "wasserstein": (Wasserstein, 1.0)}


def make_model() -> JointModel:
    """Return the towers of ``deep_cca.yaml``."""
    towers = {
        "series": Tower(Signal(3, 256), Series(3, 256, width=48, depth=1, patch=8)),
        "text": Tower(Bytes(48), TransformerText(context=48, width=48, depth=1, heads=4)),
    }
    return JointModel(towers, DIM)


def read_split(split: str, model: JointModel) -> Batch:
    """Return all samples of a split as one batch."""
    shards = Shards(str(SHARDS / f"{split}-*.tar"), shuffle=False)
    (whole,) = Loader(shards, model.preprocess, batch=len(shards), train=False)
    return whole


def measure(arm: str, seed: int, terms: dict[str, Term], learn: Batch, test: Batch) -> list[Row]:
    """Train with some terms, and score both directions on the test split."""
    begin = time.monotonic()
    torch.manual_seed(seed)
    model = make_model()
    objective = Objective(terms, dim=DIM, batch=BATCH, modalities=PAIR)
    draws = torch.Generator().manual_seed(seed)
    picked = (torch.randperm(learn.size, generator=draws)[:BATCH] for _ in range(STEPS))
    train(model, objective, (take(learn, some) for some in picked), STEPS)
    seconds = round(time.monotonic() - begin, 1)
    with torch.no_grad():
        made = model(test)
    a, b = (made[m].values for m in PAIR)
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    felt = [tuple(label[name] for name in ("shape", "material", "size")) for label in test.labels]
    numbers = torch.tensor([sorted({*felt}).index(each) for each in felt])
    hits = numbers[:, None] == numbers
    scores = [a @ b.T, b @ a.T]
    found = {
        "series_text/recall@1": [recall_at(ranks(s, hits), 1) for s in scores],
        "series_text/map": [mean_average_precision(s, hits) for s in scores],
    }
    return [Row(arm, seed, name, sum(values) / 2, seconds) for name, values in found.items()]


def main() -> None:
    torch.set_num_threads(1)
    if not (SHARDS / "manifest.json").is_file():
        write(SHARDS)
    learn, test = (read_split(split, make_model()) for split in ("train", "test"))
    rows: dict[str, list[Row]] = {name: [] for name in TERMS}
    for seed in (0, 1, 2):
        clip = measure("without", seed, {"clip": Term(InfoNCE(), PAIR)}, learn, test)
        for name, (loss, weight) in TERMS.items():
            both = {"clip": Term(InfoNCE(), PAIR), name: Term(loss(), PAIR, weight)}
            rows[name] += clip + measure("with", seed, both, learn, test)
            rows[name] += measure("alone", seed, {name: Term(loss(), PAIR)}, learn, test)
            print("\n".join([name, *table(rows[name])]), flush=True)
            write_rows(HERE / "results" / f"{name}.csv", rows[name])


if __name__ == "__main__":
    main()
