"""Digits by their synonyms, definitions and parents: texts drawn in training, and relatives that are no negatives.

    python configs/ideas/keep.py                     # 3 seeds, writes configs/ideas/results/keep.csv
    python configs/ideas/run.py keep --table

2,000 pictures, and no caption but the names of their digits. 1,000 test pictures ask by name, by each synonym, by each
definition, and for one of the three parents. The arm without reads names alone. The towers and terms are those of
``keep.yaml``.
"""

from __future__ import annotations

import time

import torch
from digits_in_memory import NAMES, draw_batches, make_towers, read_digits
from joined import train
from run import HERE, Row, table, write_rows
from torch import Tensor

from align.files.concepts import read_concepts
from align.losses import InfoNCE, Relatives
from align.model import JointModel
from align.objective import Objective, Term
from align.preprocess import Bytes, ConceptTexts

FILE = str(HERE / "digit_concepts.json")
STEPS, BATCH, DIM = 150, 64, 32
ARMS = {"names": (False, False), "drawn": (True, False), "drawn, relatives": (True, True)}


def measure(arm: str, seed: int, learn: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> list[Row]:
    """Train one arm and score it."""
    drawn, relatives = ARMS[arm]
    begin = time.monotonic()
    torch.manual_seed(seed)
    text = ConceptTexts(FILE, Bytes(32)) if drawn else Bytes(32)
    model = JointModel(make_towers(text), DIM)
    loss = Relatives(InfoNCE(), FILE, "digit") if relatives else InfoNCE()
    objective = Objective({"pairs": Term(loss, ["image", "text"])}, dim=DIM, batch=BATCH)
    objective.name_classes({"digit": NAMES})
    train(model, objective, draw_batches(*learn, text, STEPS, BATCH, seed), STEPS)
    seconds = round(time.monotonic() - begin, 1)
    concepts = read_concepts(FILE)
    pictures, digits = test
    x = torch.cat([model.embed_values("image", some) for some in pictures.split(250)])

    def ask(texts: list[str], right: Tensor) -> float:
        return float(((x @ model.embed(text=texts)["text"].T).argmax(1) == right).double().mean())

    entries = [concepts[name] for name in NAMES]
    parents = sorted({each.parents[0] for each in entries})
    above = torch.tensor([parents.index(each.parents[0]) for each in entries])[digits]
    synonyms = [ask([each.synonyms[k] for each in entries], digits) for k in (0, 1)]
    definitions = [ask([each.definitions[k] for each in entries], digits) for k in (0, 1)]
    found = {
        "accuracy, names": ask(NAMES, digits),
        "accuracy, synonyms": sum(synonyms) / 2,
        "accuracy, definitions": sum(definitions) / 2,
        "accuracy, parents": ask(parents, above),
    }
    return [Row(arm, seed, name, value, seconds) for name, value in found.items()]


def main() -> None:
    torch.set_num_threads(1)
    learn, test = read_digits("train", 2000), read_digits("test", 1000)
    rows: list[Row] = []
    for seed in (0, 1, 2):
        for arm in ARMS:
            rows += measure(arm, seed, learn, test)
            print(rows[-1], flush=True)
    write_rows(HERE / "results" / "keep.csv", rows)
    print("\n".join(["keep", *table(rows)]))


if __name__ == "__main__":
    main()
