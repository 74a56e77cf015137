"""XOR: what only all three modalities together say. Symile's own synthetic test (Saporta et al. 2024, arXiv 2411.01053,
section 4.1), on our losses.

    python configs/experiments/xor.py                     # the table: configs/experiments/xor.csv and xor.png
    python configs/experiments/xor.py --negatives all partial shuffled 1024 --seeds 0 1 2 3 4 --p 0.1 0.5 1 \
        --batch 128 --out configs/experiments/xor_negatives.csv

a and b are five fair bits each; c = a xor b with probability p, else c = a. Each modality is embedded by one affine map
of its bits; b is then searched for among all 32 values by the multilinear product with (a, c). Who always answers
a xor c is right with probability p + (1 - p) / 32, the ceiling; no pair of modalities says anything about b, so
pairwise losses stay at 1/32.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses import InfoNCE, Symile
from align.scoring import score

BITS, DIM = 5, 16
PUBLISHED = [0.032, 0.107, 0.174, 0.295, 0.421, 0.516, 0.612, 0.706, 0.804, 0.903, 1.000]  # its code, run by us
HERE = Path(__file__).parent


def world(n: int, p: float, draw: torch.Generator) -> list[Tensor]:
    """n samples of a, b, c: (n, 5) bits each."""
    a, b = (torch.randint(2, (n, BITS), generator=draw) for _ in range(2))
    mixed = torch.rand(n, generator=draw) < p
    return [a, b, torch.where(mixed[:, None], a ^ b, a)]


class Space(nn.Module):
    """An affine map of the bits (-1 or 1) of each modality, and unit vectors (n, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(BITS, DIM) for _ in range(3))

    def forward(self, bits: list[Tensor]) -> list[Tensor]:
        return [F.normalize(f(2.0 * x - 1), dim=1) for f, x in zip(self.maps, bits, strict=True)]


def train(p: float, negatives: str, seed: int, steps: int, size: int) -> Space:
    """One run; negatives is a kind that Symile knows, a number of tuples, or "pairwise"."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(1000 + seed)
    space = Space()
    loss = InfoNCE() if negatives == "pairwise" else Symile(int(negatives) if negatives.isdigit() else negatives)  # type: ignore[arg-type]
    loss.start(DIM, 2 if negatives == "pairwise" else 3, size)
    optimizer = torch.optim.AdamW([*space.parameters(), *loss.parameters()], lr=0.05, weight_decay=0.0)
    ids = torch.arange(size)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        embeddings = space(world(size, p, draw))
        if negatives == "pairwise":
            value = sum(loss([embeddings[i], embeddings[j]], [ids, ids]) for i, j in ((0, 1), (0, 2), (1, 2)))
        else:
            value = loss(embeddings, [ids] * 3, generator=draw)
        optimizer.zero_grad()
        value.backward()  # type: ignore[union-attr]
        optimizer.step()
        loss.clamp_()
    return space


@torch.no_grad()
def accuracy(space: Space, p: float, how: str, tests: int = 10) -> tuple[float, float]:
    """Mean and standard deviation over test draws of 10,000 samples of how often b comes first among all 32."""
    every = torch.arange(2**BITS)[:, None].bitwise_right_shift(torch.arange(BITS)) & 1  # (32, 5)
    shares = []
    for test in range(tests):
        a, b, c = world(10_000, p, torch.Generator().manual_seed(10**6 + test))
        x, _, z = space([a, b, c])
        _, candidates, _ = space([every] * 3)
        best = score({"a": x, "c": z}, candidates, how).argmax(1)  # type: ignore[arg-type]
        shares.append(float((every[best] == b).all(1).float().mean()))
    return statistics.mean(shares), statistics.stdev(shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p", type=float, nargs="+", default=[i / 10 for i in range(11)])
    parser.add_argument("--negatives", nargs="+", default=["shuffled", "pairwise"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=HERE / "xor.csv")
    given = parser.parse_args()
    began = time.process_time()
    with given.out.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["negatives", "p", "seed", "accuracy", "std_over_tests", "ceiling", "published"])
        for negatives in given.negatives:
            for p in given.p:
                for seed in given.seeds:
                    space = train(p, negatives, seed, given.steps, given.batch)
                    mean, spread = accuracy(space, p, "cosine" if negatives == "pairwise" else "mip")
                    known = PUBLISHED[round(10 * p)] if abs(10 * p - round(10 * p)) < 1e-9 else ""
                    row = [negatives, p, seed, f"{mean:.4f}", f"{spread:.4f}", f"{p + (1 - p) / 32:.4f}", known]
                    table.writerow(row)
                    print(*row, f"{time.process_time() - began:.0f} CPU s so far", flush=True)


if __name__ == "__main__":
    main()
