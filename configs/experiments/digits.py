"""Real images and real voices: what pairwise losses, Symile and both together learn of them, and with which negatives.

    python datasets/digits.py shards/digits_sum --task sum && python datasets/digits.py shards/digits
    python configs/experiments/digits.py --task sum --objectives pairwise partial pairwise+partial
    python configs/experiments/digits.py --task digits --objectives pairwise pairwise+partial

Task `sum`: an image of a, a recording of b, and the word of (a + b) mod 10. No pair of them says anything about the
third. The score is how often the right word of ten is first for (image, sound), by the multilinear product; by the sum
of cosines for an objective of pairs alone. Task `digits`: image, recording and word of one digit; the score is the mean
class recall@1 over the six ordered pairs.

An objective is `pairwise` (InfoNCE over all pairs), a kind of Symile's negatives (`partial`, `shuffled`, `all`, a
number), `A>B` (kind A for the first third of the steps, then B), two of these with a plus, or a name of
which_loss_losses.py, as `GRAM`, which is scored as which_loss.py does. Towers are those of
configs/digits_symile.yaml; inputs are preprocessed once, without augmentation.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from which_loss_losses import LOSSES, scores

from align.commands.train import make_parser
from align.data import Shards
from align.losses import InfoNCE, Symile
from align.model import JointModel
from align.objective import Objective, Term
from align.optim import AdamW
from align.scoring import score
from align.values import Batch, Rows

HERE = Path(__file__).parent
CONFIG = HERE.parent / "digits_symile.yaml"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODALITIES = ("audio", "image", "text")


def towers(seed: int) -> JointModel:
    """The config's model, its weights by the seed."""
    parser = make_parser()
    values = parser.parse_args(["--config", str(CONFIG)])
    torch.manual_seed(seed)
    return parser.instantiate(values).model


def read(pattern: str, model: JointModel, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """Up to count samples: modality -> values as evaluation sees them, and (n,) the number that the word says."""
    rows: dict[str, list[Any]] = {m: [] for m in MODALITIES}
    numbers = []
    for sample in itertools.islice(Shards(pattern, seed=0).samples(0), count):
        for m in MODALITIES:
            member = next(value for name, value in sample.items() if name.split(".")[0] == m)
            prepare = model.preprocess[m]
            rows[m].append(prepare.eval(prepare.decode(member)))
        said = sample["text.txt"].decode().split()
        numbers.append(next(i for i, word in enumerate(WORDS) if word in said))
    return {m: model.preprocess[m].collate(x) for m, x in rows.items()}, torch.tensor(numbers)


def batch(values: dict[str, Tensor], index: Tensor) -> Batch:
    ids = torch.arange(len(index))
    return Batch({m: Rows(x[index], ids) for m, x in values.items()}, [str(int(i)) for i in index], index)


def terms(objective: str, spread: float, start: float | None) -> tuple[dict[str, Term], list[str]]:
    """The terms that a name means, and the kinds of negatives in turn."""
    if objective in LOSSES:
        return LOSSES[objective](), []
    made: dict[str, Term] = {}
    kinds: list[str] = []
    for part in objective.split("+"):
        if part == "pairwise":
            made["pairs"] = Term(InfoNCE(), "all", weight=1 / 3)  # the mean over the three pairs
        else:
            kinds = part.split(">")
            made["three"] = Term(Symile(kind(kinds[0]), start_scale=start, spread=spread), "all")
    return made, kinds


def kind(name: str) -> Any:
    return int(name) if name.isdigit() else name


def train(
    given: argparse.Namespace, objective: str, seed: int, values: dict[str, Tensor]
) -> tuple[JointModel, Objective, float]:
    """The model and its objective after all steps, and the last loss."""
    model = towers(seed)
    made, kinds = terms(objective, given.spread, given.start_scale)
    total = Objective(made, dim=model.dim, batch=given.batch, modalities=model.modalities)
    optim = AdamW(lr=given.lr)
    optimizer = optim.build(model, total)
    n = len(values["text"])
    order, value = torch.zeros(0, dtype=torch.long), torch.zeros(())
    draw = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(given.steps):
        if len(order) < given.batch:
            order = torch.randperm(n, generator=draw)
        index, order = order[: given.batch], order[given.batch :]
        if len(kinds) > 1 and step == given.steps // 3:
            made["three"].loss.negatives = kind(kinds[1])  # type: ignore[assignment]
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = optim.at(step, given.steps)
        value, _ = total(model(batch(values, index)), generator=draw)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *total.parameters()], optim.clip)
        optimizer.step()
        total.clamp_()
    return model.eval(), total.eval(), float(value.detach())


@torch.no_grad()
def result(
    model: JointModel, total: Objective, task: str, objective: str, values: dict[str, Tensor], numbers: Tensor
) -> float:
    """The task's score on the test split."""
    found = {m: [] for m in MODALITIES}
    for index in torch.arange(len(numbers)).split(500):
        embeddings = model(batch(values, index))
        for m in MODALITIES:
            found[m].append(embeddings[m].values)
    x: dict[str, Tensor] = {m: torch.cat(parts) for m, parts in found.items()}  # type: ignore[arg-type]
    if task == "sum":
        words = model.embed(text=list(WORDS))["text"]
        asked = {"audio": x["audio"], "image": x["image"]}
        if objective in LOSSES:
            best = scores(total, asked, words, "text").argmax(1)
        else:
            best = score(asked, words, "cosine" if objective == "pairwise" else "mip").argmax(1)
        return float((best == numbers).float().mean())
    hits = []
    for a, b in itertools.permutations(MODALITIES, 2):
        best = score({a: x[a]}, x[b]).argmax(1)
        hits.append(float((numbers[best] == numbers).float().mean()))
    return sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["sum", "digits"], default="sum")
    parser.add_argument("--objectives", nargs="+", default=["pairwise", "partial", "pairwise+partial"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--spread", type=float, default=1.0, help="weight of Symile's regulariser against collapse")
    parser.add_argument("--start-scale", type=float, help="Symile's scale at the start; default: the library's")
    parser.add_argument("--train", type=int, default=20_000, help="samples to train on")
    parser.add_argument("--test", type=int, default=2_000, help="samples to test on")
    parser.add_argument("--shards", help="default: shards/digits_sum or shards/digits")
    parser.add_argument("--out", type=Path, help="a CSV that rows are added to")
    given = parser.parse_args()
    folder = given.shards or ("shards/digits_sum" if given.task == "sum" else "shards/digits")
    model = towers(0)
    values, _ = read(f"{folder}/train-*.tar", model, given.train)
    tests, numbers = read(f"{folder}/test-*.tar", model, given.test)
    out = given.out or HERE / f"{given.task}.csv"
    new = not out.exists() or not out.stat().st_size
    with out.open("a", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        if new:
            table.writerow(["task", "objective", "spread", "steps", "batch", "seed", "score", "loss", "cpu_seconds"])
        for objective, seed in itertools.product(given.objectives, given.seeds):
            began = time.process_time()
            trained, total, loss = train(given, objective, seed, values)
            right = result(trained, total, given.task, objective, tests, numbers)
            took = round(time.process_time() - began)
            row = [
                given.task,
                objective,
                given.spread,
                given.steps,
                given.batch,
                seed,
                f"{right:.4f}",
                f"{loss:.3f}",
                took,
            ]
            table.writerow(row)
            file.flush()
            print(*row, flush=True)


if __name__ == "__main__":
    main()
