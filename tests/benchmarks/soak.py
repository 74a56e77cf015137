"""A long run of a tiny model: resident memory, open files and threads of `align train` over its steps.

    python tests/benchmarks/soak.py --steps 20000 --workers 4

prints a table, and the slope of resident memory (process and data workers) in MiB per 1,000 steps, by least squares
after the first tenth. Exit code 1 where it is above 1, or files or threads are not constant.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

sys.path.append(str(Path(__file__).parents[1]))

from tiny import made, write

from align.lit import AlignData, AlignModule, Checkpoints, fit
from align.optim import AdamW


def measure_memory(pid: int | str) -> float:
    """Return MiB that a process holds, and its share of what it holds with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


class Watch(L.Callback):
    """Reads memory, files and threads of the run every so many steps."""

    def __init__(self, every: int):
        self.every = every
        self.readings: list[tuple[int, float, int, int]] = []  # step, MiB, open files, threads

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, AlignModule)
        if pl_module.step % self.every:
            return
        gc.collect()
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        memory = sum(map(measure_memory, ["self", *children]))
        files, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        self.readings.append((pl_module.step, memory, files, threads))


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


def find_slope(readings: list[tuple[int, float, int, int]]) -> float:
    """Return MiB per 1,000 steps after the first tenth of the steps."""
    late = [(step / 1000, memory) for step, memory, _, _ in readings if step >= readings[-1][0] / 10]
    x, y = torch.tensor(late, dtype=torch.float64).T
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        readings = soak(Path(folder), args.steps, args.workers, max(1, args.steps // 100)).readings
    print("  step       MiB  files  threads")
    for step, memory, files, threads in readings[:: max(1, len(readings) // 20)]:
        print(f"{step:>6}  {memory:>8.1f}  {files:>5}  {threads:>7}")
    late = [row for row in readings if row[0] >= args.steps / 10]
    slope, files, threads = find_slope(readings), {row[2] for row in late}, {row[3] for row in late}
    print(f"{args.steps} steps, {args.workers} workers, {time.monotonic() - begin:.0f} s")
    print(f"memory {slope:+.3f} MiB per 1,000 steps (<= 1); files {sorted(files)}; threads {sorted(threads)}")
    return int(slope > 1 or len(files) > 1 or len(threads) > 1)


if __name__ == "__main__":
    sys.exit(main())
