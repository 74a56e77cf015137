"""A step in chunks against the plain step: CPU time, peak memory and gradients, with ImageCNN and TransformerText.

    OMP_NUM_THREADS=1 python tests/benchmarks/chunks.py                    # batches of 512 and 2,048
    OMP_NUM_THREADS=1 python tests/benchmarks/chunks.py --batches 32768 --chunks 64 --rounds 1    # minutes
    OMP_NUM_THREADS=1 python tests/benchmarks/chunks.py --turns --batches 512 --rounds 4    # first pass: 1 chunk, or 4

Pairs of an image of 64 pixels and 32 bytes of text, both encoders as they are by default, InfoNCE, float32. A step is
forward, loss and backward, without an optimiser. Each line is a process of its own. CPU time is the smallest of the
rounds, memory the VmHWM of the first round, above the VmRSS before it, with the gradients. ``--plain`` is the largest
batch whose plain step is run. Freed memory stays in the process, as in ``align train``. The last column is the largest
‖Δ‖/‖g‖ of a parameter.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.commands.process import keep_memory
from align.encoders import ImageCNN, TransformerText
from align.grad_cache import Chunks, replay
from align.losses import InfoNCE
from align.preprocess import Bytes, Image


class Cost(NamedTuple):
    cpu: float  # s
    memory: float  # MiB
    loss: float


def made(n: int) -> tuple[JointModel, Objective, Batch]:
    torch.manual_seed(0)
    towers = {
        "image": Tower(Image(64), ImageCNN()),
        "text": Tower(Bytes(context=32), TransformerText(context=32)),
    }
    model = JointModel(towers, 128)
    objective = Objective({"pairs": Term(InfoNCE(), ["image", "text"])}, dim=128, batch=n, modalities=["image", "text"])
    samples = torch.arange(n)
    images = torch.randint(0, 256, (n, 3, 64, 64), dtype=torch.uint8)
    rows = {"image": Rows(images, samples), "text": Rows(torch.randint(3, 259, (n, 32)), samples)}
    return model, objective, Batch(rows, [str(i) for i in range(n)], samples)


def step(model: JointModel, objective: Objective, batch: Batch, chunk: int) -> float:
    model.zero_grad(), objective.zero_grad()
    loss, _ = objective(model(batch, run=Chunks(chunk, model.modalities) if chunk else None))
    loss.backward()
    return float(loss.detach())


def memory(name: str) -> float:
    """MiB of a line of the process's status."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


def measure(n: int, chunk: int, rounds: int, grads: str) -> Cost:
    """One batch and one chunk, 0 for the plain step, in this process."""
    model, objective, batch = made(n)
    step(*made(8), 4 if chunk else 0)  # what torch makes on its first call
    gc.collect()
    before, times, most = memory("VmRSS"), [], 0.0
    Path("/proc/self/clear_refs").write_text("5")
    for i in range(rounds):
        torch.manual_seed(1)
        start = time.process_time()
        loss = step(model, objective, batch, chunk)
        times.append(time.process_time() - start)
        most = most if i else memory("VmHWM") - before
    torch.save({name: p.grad for name, p in model.named_parameters()}, grads)
    return Cost(min(times), most, loss)


def take_turns(n: int, chunks: list[int], rounds: int) -> None:
    """Print CPU times in turns in this process, with a first pass of one chunk at a time and of several."""
    model, objective, batch = made(n)
    best: dict[tuple[int, int], float] = {}
    several = replay.WIDE
    for _ in range(rounds):
        for chunk, wide in [(0, 1), *((chunk, wide) for wide in (1, several) for chunk in chunks)]:
            replay.WIDE, start = wide, time.process_time()
            step(model, objective, batch, chunk)
            best[chunk, wide] = min(best.get((chunk, wide), float("inf")), time.process_time() - start)
    for (chunk, wide), cpu in best.items():
        print(f"| {n} | {chunk or 'plain'} | {wide} | {cpu:.2f} | {cpu / best[0, 1]:.2f} |", flush=True)


def apart(found: str, wanted: str) -> float:
    ours, theirs = torch.load(found), torch.load(wanted)
    return max(float((ours[n] - g).norm() / g.norm()) for n, g in theirs.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--chunks", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--plain", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--turns", action="store_true", help="in turns in one process, CPU time alone")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # batch, chunk, file of gradients: a child process
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(1)
        keep_memory()
        print(json.dumps(measure(int(args.one[0]), int(args.one[1]), args.rounds, args.one[2])))
        return
    if args.turns:
        torch.set_num_threads(1)
        keep_memory()
        print("| batch | chunk | chunks at a time | CPU s | times the plain step |\n|---|---|---|---|---|")
        for n in args.batches:
            take_turns(n, args.chunks, args.rounds)
        return
    print(
        "| batch | chunk | CPU s | times the plain step | MiB | loss | largest ‖Δ‖/‖g‖ |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for n in args.batches:
            plain = None
            for chunk in ([0] if n <= args.plain else []) + args.chunks:
                grads = f"{folder}/{chunk}"
                words = [sys.executable, __file__, "--rounds", str(args.rounds), "--one", str(n), str(chunk), grads]
                cost = Cost(*json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
                plain = plain if chunk else cost
                ratio = f"{cost.cpu / plain.cpu:.2f}" if plain else ""
                error = f"{apart(grads, f'{folder}/0'):.1e}" if plain and chunk else ""
                name = chunk or "plain"
                numbers = f"{cost.cpu:.2f} | {ratio} | {cost.memory:.0f} | {cost.loss:.6f}"
                print(f"| {n} | {name} | {numbers} | {error} |", flush=True)


if __name__ == "__main__":
    main()
