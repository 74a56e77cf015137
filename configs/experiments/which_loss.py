"""Every loss on worlds whose dependence is known: the figures of docs/which-loss.md.

    python configs/experiments/which_loss.py xor swapped gaussian four            # all losses, three seeds
    python configs/experiments/which_loss.py xor --losses InfoNCE "Symile partial" --seeds 0 1 2

Each question adds to configs/experiments/which_loss_QUESTION.csv what is not there yet. Each modality is
embedded by a network of one hidden layer, on `xor` by an affine map as in Symile's paper. A loss is an `Objective`, and
the target is found by the scores that the library takes for its terms (`align.scoring`), all other modalities given.
For a Gaussian world the value is the lower bound on I(a, b; c) of those scores among 256 candidates (van den Oord et
al. 2018, arXiv 1807.03748, equation 8), in nats, at the temperature that is best on other draws.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from which_loss_losses import LONG, LOSSES, asks, scores
from which_loss_worlds import Finite, Gaussian, bystander, copies, gaussians, parity, swapped, xor

from align.objective import Objective
from align.values import Embeddings, Rows

HERE = Path(__file__).parent
DIM, BATCH, STEPS, LR = 16, 64, 150, 0.03
COLUMNS = ["world", "loss", "seed", "value", "ceiling", "cpu_seconds"]


class Question(NamedTuple):
    """A world, its name in the table, and the networks that embed its modalities."""

    name: str
    world: Finite | Gaussian
    hidden: int | None = 64  # None: affine


def questions(name: str) -> list[Question]:
    """Return the worlds of a question."""
    if name == "xor":
        return [Question(f"p = {p}", xor(p), None) for p in (0.2, 0.5, 0.8, 1.0)]
    if name == "swapped":
        worlds = {"swap 0.4": (0.4, False), "swap 0.4, marked": (0.4, True)}
        return [Question(said, swapped(*given)) for said, given in worlds.items()]
    if name == "four":
        return [
            Question("copies", copies(0.7)),
            Question("a xor b, c beside", bystander()),
            Question("a xor b xor c", parity()),
        ]
    return [Question(said, world) for said, world in gaussians().items()]


def network(inputs: int, hidden: int | None) -> nn.Module:
    if hidden is None:
        return nn.Linear(inputs, DIM)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, DIM))


def table(x: dict[str, Tensor], networks: nn.ModuleDict) -> Embeddings:
    """Return the embeddings of complete samples: modality -> (n, W) inputs."""
    n = len(next(iter(x.values())))
    ids = torch.arange(n)
    rows = {m: Rows(F.normalize(networks[m](v), dim=1), ids) for m, v in x.items()}
    return Embeddings(rows, [str(i) for i in range(n)], ids)


def train(objective: Objective, networks: nn.ModuleDict, world: Finite | Gaussian, steps: int, seed: int) -> None:
    """Train on fresh draws, with a rate that falls to zero."""
    draw = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.AdamW([*networks.parameters(), *objective.parameters()], lr=LR, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LR * (1 - step / steps)
        value, _ = objective(table(world.draw(BATCH, draw), networks), generator=draw)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        objective.clamp_()


@torch.no_grad()
def accuracy(objective: Objective, networks: nn.ModuleDict, world: Finite, n: int = 5000) -> float:
    """Return how often the target's value is first among all of them, on new draws."""
    x = world.draw(n, torch.Generator().manual_seed(10**6))
    rows = {m: F.normalize(networks[m](x[m]), dim=1) for m in world.query}
    every = F.normalize(networks[world.target](world.candidates), dim=1)
    best = scores(objective, rows, every, world.target).argmax(1)
    return float((world.candidates[best] == x[world.target]).all(1).float().mean())


@torch.no_grad()
def bound(give: Callable[[dict[str, Tensor]], Tensor], world: Gaussian, n: int = 256, draws: int = 16) -> float:
    """Return the bound on I(a, b; c) of scores (n, n) at the best temperature of other draws, in nats."""

    def measure(scale: Tensor, seeds: range) -> Tensor:
        found = [give(world.draw(n, torch.Generator().manual_seed(10**6 + s))) for s in seeds]
        return torch.stack([(scale[:, None, None] * s).log_softmax(2).diagonal(dim1=1, dim2=2).mean(1) for s in found])

    tried = torch.cat([torch.zeros(1), torch.logspace(-2, 1, 25)])
    best = tried[measure(tried, range(4)).mean(0).argmax()]
    return math.log(n) + float(measure(best[None], range(4, 4 + draws)).mean())


def best(world: Finite | Gaussian) -> float:
    """Return the accuracy, or the bound, that no score can pass."""
    return world.ceiling if isinstance(world, Finite) else bound(lambda x: world.log_ratio(x, x["c"]), world)


def run(question: Question, loss: str, seed: int, ceiling: float) -> list[Any]:
    """Return the row of one loss with one seed."""
    began = time.process_time()
    torch.manual_seed(seed)
    world = question.world
    x = world.draw(2, torch.Generator().manual_seed(0))
    networks = nn.ModuleDict({m: network(v.shape[1], question.hidden) for m, v in x.items()})
    objective = Objective(LOSSES[loss](), dim=DIM, batch=BATCH, modalities=list(x))
    train(objective, networks, world, STEPS * LONG.get(loss, 1), seed)
    if isinstance(world, Finite):
        value = accuracy(objective, networks, world)
    else:

        def give(x: dict[str, Tensor]) -> Tensor:
            rows = {m: F.normalize(networks[m](v), dim=1) for m, v in x.items()}
            return scores(objective, {m: rows[m] for m in ("a", "b")}, rows["c"], "c")

        value = bound(give, world)
    took = round(time.process_time() - began, 1)
    return [question.name, loss, seed, f"{value:.4f}", f"{ceiling:.4f}", took]


def read(path: Path) -> dict[tuple[str, ...], list[Any]]:
    """Return the rows of a table by world, loss and seed."""
    rows = [[r[c] for c in COLUMNS] for r in csv.DictReader(path.open(newline=""))] if path.is_file() else []
    return {tuple(r[:3]): r for r in rows}


def keep(path: Path, rows: list[list[Any]]) -> None:
    """Write rows over those of the same world, loss and seed."""
    every = read(path) | {tuple(map(str, r[:3])): r for r in rows}
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *every.values()])
    print(*(" ".join(map(str, row)) for row in rows), sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="+", choices=["xor", "swapped", "gaussian", "four"])
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES), metavar="LOSS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--again", action="store_true", help="also what the table has already")
    given = parser.parse_args()
    for name in given.questions:
        path = HERE / f"which_loss_{name}.csv"
        for question in questions(name):
            ceiling = best(question.world)
            for loss, seed in itertools.product(given.losses, given.seeds):
                known = (question.name, loss, str(seed)) in read(path) and not given.again
                if asks(name, loss) and not known:
                    keep(path, [run(question, loss, seed, ceiling)])


if __name__ == "__main__":
    main()
