"""Digits by their synonyms, definitions and parents: texts drawn in training, and relatives that are no negatives.

    python configs/ideas/keep.py                 # 2 cores, 1 thread: 1.5 min a seed; writes results/keep.csv

2,000 pictures, and no caption but the names of their digits. 1,000 test pictures ask by name, by each synonym, by each
definition, and for one of the three parents. The arm without reads names alone. The towers and terms are those of
``keep.yaml``.
"""

from __future__ import annotations

import torch
from compare import HERE, Arms, compare
from digits_in_memory import NAMES, accuracy, draw_batches, embed_pictures, make_towers, read_digits
from fit import train

from align.files.concepts import read_concepts
from align.losses import InfoNCE, Loss, Relatives
from align.model import JointModel
from align.objective import Objective, Term
from align.preprocess import Bytes, ConceptTexts, Preprocess

FILE = str(HERE / "digit_concepts.json")
STEPS, BATCH, DIM = 150, 64, 32


def learn(text: Preprocess, loss: Loss, seed: int) -> dict[str, float]:
    """Train with a way to read names and a loss, and score every way to ask."""
    model = JointModel(make_towers(text), DIM)
    objective = Objective({"pairs": Term(loss, ["image", "text"])}, dim=DIM, batch=BATCH)
    objective.name_classes({"digit": NAMES})
    train(model, objective, draw_batches(*read_digits("train", 2000), text, STEPS, BATCH, seed), STEPS)
    pictures, digits = read_digits("test", 1000)
    rows, concepts = embed_pictures(model, pictures), read_concepts(FILE)
    entries = [concepts[name] for name in NAMES]
    parents = sorted({each.parents[0] for each in entries})
    above = torch.tensor([parents.index(each.parents[0]) for each in entries])[digits]
    synonyms = [accuracy(model, rows, [each.synonyms[k] for each in entries], digits) for k in (0, 1)]
    definitions = [accuracy(model, rows, [each.definitions[k] for each in entries], digits) for k in (0, 1)]
    return {
        "accuracy, names": accuracy(model, rows, NAMES, digits),
        "accuracy, synonyms": sum(synonyms) / 2,
        "accuracy, definitions": sum(definitions) / 2,
        "accuracy, parents": accuracy(model, rows, parents, above),
    }


def arms(seed: int) -> Arms:
    texts, relatives = ConceptTexts(FILE, Bytes(32)), Relatives(InfoNCE(), FILE, "digit")
    return {
        "names": lambda: learn(Bytes(32), InfoNCE(), seed),
        "drawn": lambda: learn(texts, InfoNCE(), seed),
        "drawn, relatives": lambda: learn(texts, relatives, seed),
    }


if __name__ == "__main__":
    compare(__doc__, keep=arms)
