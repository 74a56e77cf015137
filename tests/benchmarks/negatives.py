"""A small batch with and without more and better negatives: scores beside the CPU time of a step.

    OMP_NUM_THREADS=1 python tests/benchmarks/negatives.py --data $ALIGN_DATA/cifar10

CIFAR-10's pictures, 400 of each class to train and 100 to test. A live head (256 -> 256 -> 64) reads a picture's grey
values, 16 x 16. Two frozen sides:

- twin: the picture's colours, 8 x 8, whitened to 64 numbers. Each is its own: recall@1 among the 1,000 of the test.
- words: the vector of its class with noise, as captions of one thing differ (cosine about .9). There a bank holds 400
  false negatives of each anchor: accuracy of naming the class.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from align.curation.mine.near import Pool, find_near
from align.losses import Bank, InfoNCE, MemoryQueue, SigLIP, Window

DIM, STEPS = 64, 500


def read(folder: Path, each: int) -> tuple[np.ndarray, Tensor]:
    """Return pictures (n, 32, 32, 3) in [0, 1], and their classes (n,)."""
    pictures, classes = [], []
    for k, name in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(name.iterdir())[:each]:
            pictures.append(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255)
            classes.append(k)
    return np.stack(pictures), torch.tensor(classes)


def grey(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures.mean(3)).unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4)).flatten(1) - 0.5


def colours(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).unflatten(1, (8, 4)).unflatten(3, (8, 4)).mean((2, 4)).flatten(1)


def whiten(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean = train.mean(0)
    _, size, axes = torch.linalg.svd(train - mean, full_matrices=False)
    wide = axes[:DIM].T / size[:DIM] * len(train) ** 0.5
    return tuple(F.normalize((x - mean) @ wide, dim=1) for x in (train, test))


def train(loss, live: Tensor, frozen: Tensor, batch: int, seed: int) -> tuple[nn.Module, float]:
    """Return the head after STEPS steps, and the CPU milliseconds of a step."""
    torch.manual_seed(seed)
    head = nn.Sequential(nn.Linear(256, 256), nn.GELU(), nn.Linear(256, DIM))
    loss.start(DIM, 2, batch)
    optimizer = torch.optim.AdamW([*head.parameters(), *loss.parameters()], lr=2e-3, weight_decay=0.05)
    draw, begin = torch.Generator().manual_seed(seed), time.process_time()
    for _ in range(STEPS):
        number = torch.randperm(len(live), generator=draw)[:batch]
        a, sample = F.normalize(head(live[number]), dim=1), torch.arange(batch)
        more = {"numbers": [number, number]} if loss.needs_numbers else {}
        value = loss([a, frozen[number]], [sample, sample], **more)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.clamp_()
    return head, 1000 * (time.process_time() - begin) / STEPS


def bank(loss, frozen: Tensor) -> Bank:
    made = Bank(loss, "1")
    made.fill(frozen, torch.arange(len(frozen)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    (pictures, classes), (others, named) = read(options.data / "train", 500), read(options.data / "test", 100)
    live, asked = grey(pictures), grey(others)
    twin, answers = whiten(colours(pictures), colours(others))
    draw = torch.Generator().manual_seed(5)
    names = F.normalize(torch.randn(10, DIM, generator=draw), dim=1)
    words = F.normalize(names[classes] + 0.04 * torch.randn(len(classes), DIM, generator=draw), dim=1)
    both = (words[:200] @ words[:200].T).fill_diagonal_(0)
    same = classes[:200, None] == classes[None, :200]
    print(f"{len(live)} pictures; words of one class have a cosine of {both[same].sum() / (same.sum() - 200):.2f}")

    def recall(head: nn.Module) -> float:
        return float(
            ((F.normalize(head(asked), dim=1) @ answers.T).argmax(1) == torch.arange(len(asked))).float().mean()
        )

    def accuracy(head: nn.Module) -> float:
        return float(((F.normalize(head(asked), dim=1) @ names.T).argmax(1) == named).float().mean())

    rows = [
        ("twin", "batch 16", 16, twin, lambda: InfoNCE()),
        ("twin", "batch 16, queue of 4,096", 16, twin, lambda: MemoryQueue(InfoNCE(), 4096)),
        ("twin", "batch 16, bank", 16, twin, lambda: bank(InfoNCE(), twin)),
        ("twin", "batch 16, SigLIP", 16, twin, lambda: SigLIP()),
        ("twin", "batch 16, SigLIP, bank", 16, twin, lambda: bank(SigLIP(start_bias=-8.5), twin)),
        ("twin", "batch 256", 256, twin, lambda: InfoNCE()),
        ("words", "batch 64", 64, words, lambda: InfoNCE()),
        ("words", "batch 64, window below .6", 64, words, lambda: Window(InfoNCE(), "1", high=0.6)),
        ("words", "batch 64, bank", 64, words, lambda: bank(InfoNCE(), words)),
        ("words", "batch 64, bank, window below .6", 64, words, lambda: bank(Window(InfoNCE(), "1", high=0.6), words)),
    ]
    print("| frozen side | training | score | CPU ms a step |\n|---|---|---|---|")
    for side, name, size, frozen, make in rows:
        found, times = [], []
        for seed in range(options.seeds):
            with torch.enable_grad():
                head, ms = train(make(), live, frozen, size, seed)
            with torch.no_grad():
                found.append((recall if side == "twin" else accuracy)(head))
            times.append(ms)
        scores = " ".join(f"{x:.3f}" for x in found)
        print(f"| {side} | {name} | {scores} | {min(times):.1f} |", flush=True)
    number = torch.arange(len(twin))
    begin = time.process_time()
    find_near(twin, number, number, Pool(twin, number, torch.full_like(number, -1), number), 50)
    print(f"the 50 nearest of {len(twin)} rows to each of them, D = {DIM}: {time.process_time() - begin:.1f} CPU s")


if __name__ == "__main__":
    main()
