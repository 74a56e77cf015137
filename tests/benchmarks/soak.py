"""A long run of a tiny model: resident memory, open files and threads of `align train` over its steps.

    python tests/benchmarks/soak.py --steps 20000 --workers 4

prints a table as it goes, and the slopes of resident memory in MiB per 1,000 steps: the process, and its data workers
together. The first third is warm-up: it holds the first validations and checkpoints, whose buffers stay. A run that is
stopped by a signal prints its part. Exit code 1 where a slope is above 1, or files, threads or workers change.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch

sys.path.append(str(Path(__file__).parents[1]))

from tiny import made, write

from align.lit import AlignData, AlignModule, Checkpoints, fit
from align.optim import AdamW


class Reading(NamedTuple):
    """State of the process at a step. memory: MiB of the process. children: MiB of its data workers together."""

    step: int
    memory: float
    children: float
    files: int
    threads: int
    workers: int


def measure_memory(pid: int | str) -> float:
    """Return MiB of resident memory that is no file's.

    A page that a worker shares with its parent counts in both. So the sum of proportional shares, which grows as their
    pages are copied one after another, would tell the first write to a page as a leak.
    """
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return sum(int(status.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


class Watch(L.Callback):
    """Reads memory, files and threads of the run every so many steps."""

    def __init__(self, every: int):
        self.every = every
        self.readings: list[Reading] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AlignModule)
        if pl_module.step % self.every:
            return
        gc.collect()
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        memory = measure_memory("self"), sum(map(measure_memory, children))
        self.readings.append(Reading(pl_module.step, *memory, files, threads, len(children)))
        if pl_module.step % (5 * self.every) == 0:
            print("{:>6}  {:>8.1f}  {:>11.1f}  {:>5}  {:>7}  {:>7}".format(*self.readings[-1]), flush=True)


def soak(folder: Path, steps: int, workers: int, every: int) -> Watch:
    """Train so many steps with a batch of 8, checkpoints and validations, and return the readings."""
    write(write(folder, samples=240), "test", 24)
    model, objective = made(batch=8)
    watch = Watch(every)
    data = AlignData(str(folder / "train-*.tar"), str(folder / "test-*.tar"), batch=8, workers=workers)
    given = {"accelerator": "cpu", "precision": "64-true", "logger": False, "max_steps": steps, "callbacks": [watch]}
    given["val_check_interval"] = max(100, steps // 40)
    fit(
        model,
        objective,
        data,
        folder / "run",
        optim=AdamW(lr=1e-3),
        trainer=given,
        checkpoint=Checkpoints(every_steps=max(100, steps // 40)),
    )
    return watch


def find_slopes(readings: list[Reading]) -> tuple[float, float]:
    """Return MiB per 1,000 steps of the process, and of its workers, by least squares."""
    x, *columns = torch.tensor([reading[:3] for reading in readings], dtype=torch.float64).T
    x = (x - x.mean()) / 1000
    own, children = (float((x * (y - y.mean())).sum() / (x * x).sum()) for y in columns)
    return own, children


def drop_warm_up(readings: list[Reading]) -> list[Reading]:
    """Return the readings of the later two thirds."""
    return [reading for reading in readings if reading.step >= readings[-1].step / 3]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    print("  step       MiB  workers MiB  files  threads  workers")
    with tempfile.TemporaryDirectory() as folder:
        readings = soak(Path(folder), args.steps, args.workers, max(1, args.steps // 100)).readings
    late = drop_warm_up(readings)
    slopes, counts = find_slopes(late), [sorted({r[i] for r in late}) for i in (3, 4, 5)]
    print(f"{readings[-1].step} of {args.steps} steps, {args.workers} workers, {time.monotonic() - begin:.0f} s")
    print(
        f"memory {slopes[0]:+.3f} MiB per 1,000 steps, workers {slopes[1]:+.3f} (<= 1); "
        f"files {counts[0]}; threads {counts[1]}; workers {counts[2]}"
    )
    return int(max(slopes) > 1 or any(len(found) > 1 for found in counts))


if __name__ == "__main__":
    sys.exit(main())
