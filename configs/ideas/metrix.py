"""Few digits with their names: embeddings, features or pictures mixed of two samples beside the plain pairs, or none.

    python configs/ideas/metrix.py               # 2 cores, 1 thread: 1.5 min a seed; writes results/metrix.csv

500 pictures and the names of their digits. The towers and terms are those of ``metrix.yaml``, on half of its pictures
with 100 steps of 64. A run mixes features and pictures by its key ``mixup``. Accuracy is zero-shot, on 1,000 test
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from compare import Arms, compare
from digits_in_memory import NAMES, accuracy, draw_batches, embed_pictures, make_towers, read_digits
from fit import fit
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


def compute_losses(
    model: JointModel, objective: Objective, batches: Iterator[Batch], mixup: Mixup | None, seed: int
) -> Iterator[Tensor]:
    """Yield the losses of the batches, with those of mixed rows as in a run."""
    for step, batch in enumerate(batches):

        def read(embeddings: Embeddings, step: int = step) -> Tensor:
            return objective(embeddings, generator=generator(seed, step, "loss"))[0]

        value = read(model(batch))
        if mixup is not None:
            draws = generator(seed, step, "mixup"), generator(seed, step, "mixup", 0)
            value = value + mixup(model, batch, read, shared=draws[0], local=draws[1])
        yield value


def learn(make: Make, mixup: Mixup | None, seed: int) -> dict[str, float]:
    """Train one arm, and score it."""
    model = JointModel(make_towers(), DIM)
    objective = Objective({"pairs": Term(make(), ["image", "text"])}, dim=DIM, batch=BATCH)
    batches = draw_batches(*read_digits("train", COUNT), Bytes(32), STEPS, BATCH, seed)
    fit(compute_losses(model, objective, batches, mixup, seed), [model, objective], 2e-3, cycle=STEPS)
    pictures, digits = read_digits("test", 1000)
    return {"accuracy, names": accuracy(model, embed_pictures(model, pictures), NAMES, digits)}


def arms(seed: int) -> Arms:
    return {arm: lambda given=given: learn(*given, seed) for arm, given in ARMS.items()}


if __name__ == "__main__":
    compare(__doc__, metrix=arms)
