"""Few digits with their names: embeddings, features or pictures mixed of two samples beside the plain pairs, or none.

    python configs/ideas/metrix.py                   # 3 seeds, writes configs/ideas/results/metrix.csv
    python configs/ideas/run.py metrix --table

500 pictures and the names of their digits. The towers and terms are those of ``metrix.yaml``, on half of its pictures
with 100 steps of 64. A run mixes features and pictures by its key ``mixup``. Accuracy is zero-shot, on 1,000 test
pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from digits_in_memory import NAMES, draw_batches, make_towers, read_digits
from run import HERE, Row, table, write_rows
from torch import Tensor

from align.losses import InfoNCE, Loss, Metrix
from align.model import JointModel
from align.model.mixup import Mixup
from align.objective import Objective, Term
from align.preprocess import Bytes
from align.seeds import generator
from align.values import Batch, Embeddings

COUNT, STEPS, BATCH, DIM = 500, 100, 64, 32
Make = Callable[[], Loss]
ARMS: dict[str, tuple[Make, Mixup | None]] = {
    "InfoNCE": (InfoNCE, None),
    "embeddings": (lambda: Metrix(InfoNCE()), None),
    "features": (InfoNCE, Mixup(["image", "text"], "features")),
    "pictures": (InfoNCE, Mixup(["image"])),
}


def train(model: JointModel, objective: Objective, batches: Iterator[Batch], mixup: Mixup | None, seed: int) -> None:
    """Train as a run does, in place."""
    optimizer = torch.optim.AdamW([*model.train().parameters(), *objective.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    for step, batch in enumerate(batches):

        def read(embeddings: Embeddings, step: int = step) -> Tensor:
            return objective(embeddings, generator=generator(seed, step, "loss"))[0]

        value = read(model(batch))
        if mixup is not None:
            draws = generator(seed, step, "mixup"), generator(seed, step, "mixup", 0)
            value = value + mixup(model, batch, read, shared=draws[0], local=draws[1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        objective.clamp_()
    model.eval()


def main() -> None:
    torch.set_num_threads(1)
    learn, (pictures, digits) = read_digits("train", COUNT), read_digits("test", 1000)
    rows: list[Row] = []
    for seed in (0, 1, 2):
        for arm, (make, mixup) in ARMS.items():
            begin = time.monotonic()
            torch.manual_seed(seed)
            model = JointModel(make_towers(), DIM)
            objective = Objective({"pairs": Term(make(), ["image", "text"])}, dim=DIM, batch=BATCH)
            train(model, objective, draw_batches(*learn, Bytes(32), STEPS, BATCH, seed), mixup, seed)
            seconds = round(time.monotonic() - begin, 1)
            x = torch.cat([model.embed_values("image", some) for some in pictures.split(250)])
            found = (x @ model.embed(text=NAMES)["text"].T).argmax(1)
            rows.append(Row(arm, seed, "accuracy, names", float((found == digits).double().mean()), seconds))
            print(rows[-1], flush=True)
    write_rows(HERE / "results" / "metrix.csv", rows)
    print("\n".join(["metrix", *table(rows)]))


if __name__ == "__main__":
    main()
