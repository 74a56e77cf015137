"""The losses against their peers: time, CPU time and extra memory of forward + backward, both sides in one run.

    python tests/benchmarks/losses.py                       # the table of the README, CPU, float32, D = 512
    python tests/benchmarks/losses.py --device cuda         # bfloat16 inputs, B up to 65,536; CUDA events
    python tests/benchmarks/losses.py --only "symile all"   # rows whose name holds this

Extra memory is the peak above the state before the call: on the CPU VmHWM after writing 5 to /proc/self/clear_refs, on
a GPU max_memory_allocated. Sides alternate; times are the smallest of the rounds. Peers: open_clip's ClipLoss and
SigLipLoss, and the `symile` package.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from symile import Symile
from torch import Tensor

from align.losses import infonce, siglip, symile

Loss = Callable[[list[Tensor], Tensor], Tensor]


class Row(NamedTuple):
    name: str
    batch: int
    modalities: int
    ours: Loss
    peer: Loss | None
    products: float  # multiply-adds of ours, as a multiple of B^M·D: what the arithmetic limit is reckoned from
    power: int
    speed: float | None = None
    memory: float | None = None  # times less
    most: float | None = None  # MiB


class Run(NamedTuple):
    wall: float  # s
    cpu: float  # s
    memory: float  # MiB
    loss: float


def pairs(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    return lambda xs, scale: torch.stack([loss(a, b, scale) for a, b in itertools.combinations(xs, 2)]).sum()


def clip() -> Loss:
    loss = ClipLoss()
    return pairs(lambda a, b, scale: loss(a, b, scale))


def sigmoid() -> Loss:
    loss = SigLipLoss()
    return pairs(lambda a, b, scale: loss(a, b, scale, torch.tensor(-10.0, device=a.device)))


def published(negatives: str) -> Loss:
    loss = Symile(negatives)
    return lambda xs, scale: loss(xs, scale)


def rows(gpu: bool) -> list[Row]:
    nce, sig = pairs(infonce), pairs(lambda a, b, scale: siglip(a, b, scale, -10.0))

    def every(xs: list[Tensor], scale: Tensor) -> Tensor:
        return symile(xs, scale, negatives="all")

    def drawn(xs: list[Tensor], scale: Tensor) -> Tensor:
        return symile(xs, scale, negatives="shuffled")

    if gpu:
        return [
            *(Row("infonce", B, 2, nce, clip(), 4, 2) for B in (32768, 65536)),
            *(Row("siglip", B, 2, sig, sigmoid(), 3, 2) for B in (32768, 65536)),
            *(Row("symile all", B, 3, every, None, 4, 3) for B in (1024, 2048, 4096)),
            Row("symile shuffled", 4096, 3, drawn, published("n"), 9, 2),
        ]
    return [
        Row("infonce", 8192, 2, nce, clip(), 4, 2, speed=1.5, memory=15),
        Row("infonce, 4 modalities", 4096, 4, nce, clip(), 24, 2, speed=1.5, memory=10),
        Row("siglip", 8192, 2, sig, sigmoid(), 3, 2, speed=1.4, memory=14),
        Row("symile all", 256, 3, every, published("n_squared"), 4, 3, speed=2.5, memory=40),
        Row("symile all", 1024, 3, every, None, 4, 3, most=250),
        Row("symile shuffled", 4096, 3, drawn, published("n"), 9, 2, speed=1.4, memory=2),
        Row("infonce", 4096, 2, nce, None, 4, 2),
        Row("siglip", 4096, 2, sig, None, 3, 2),
        Row("symile shuffled", 8192, 3, drawn, None, 9, 2),
    ]


def inputs(row: Row, dim: int, device: str, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    draw = torch.Generator().manual_seed(0)
    xs = [F.normalize(torch.randn(row.batch, dim, generator=draw), dim=1) for _ in range(row.modalities)]
    scale = 1 / 0.07 if row.power == 2 and row.modalities != 3 else 10 * math.sqrt(dim)
    return [x.to(device, dtype).requires_grad_() for x in xs], torch.tensor(scale, device=device, requires_grad=True)


def measure(loss: Loss, row: Row, dim: int, device: str, dtype: torch.dtype) -> Run:
    xs, scale = inputs(row, dim, device, dtype)
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        value = loss(xs, scale)
        value.backward()
        end.record()
        torch.cuda.synchronize()
        took = start.elapsed_time(end) / 1000
        return Run(took, took, (torch.cuda.max_memory_allocated() - before) / 2**20, float(value.detach()))
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    value = loss(xs, scale)
    value.backward()
    return Run(time.perf_counter() - wall, time.process_time() - cpu, (peak() - before) / 1024, float(value.detach()))


def peak() -> int:
    """KiB, the largest resident memory since clear_refs."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def limit(device: str, dtype: torch.dtype) -> float:
    """Multiply-adds a second of a large matrix product here, of CPU time on a CPU."""
    now = time.perf_counter if device == "cuda" else time.process_time
    n = 8192 if device == "cuda" else 2048
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = math.inf
    for _ in range(5):
        if device == "cuda":
            torch.cuda.synchronize()
        start = now()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, now() - start)
    return n**3 / best


def best(runs: list[Run]) -> Run:
    return Run(min(r.wall for r in runs), min(r.cpu for r in runs), max(r.memory for r in runs), runs[0].loss)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    gpu = given.device == "cuda"
    dtype = torch.bfloat16 if gpu else torch.float32
    fastest = limit(given.device, torch.float32)
    print(
        f"torch {torch.__version__}, {given.device}, {torch.get_num_threads()} threads, inputs {dtype}, D={given.dim}"
    )
    print(f"a large float32 matrix product: {2 * fastest / 1e9:.0f} GFLOP/s{' of CPU time' if not gpu else ''}")
    print("| loss | B | ours: s (CPU) | peer: s (CPU) | CPU ratio | ours MiB | peer MiB | less | of the limit | bars |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    memories: dict[tuple[str, int], float] = {}
    for row in rows(gpu):
        if given.only not in row.name:
            continue
        ours, peers, rate = [], [], fastest
        for turn in range(given.rounds if row.peer else 1 if row.batch**row.power > 1e8 else 2):
            if turn == 0:  # warm: threads, and memory that the allocator keeps
                measure(row.ours, row._replace(batch=64), given.dim, given.device, dtype)
            ours.append(measure(row.ours, row, given.dim, given.device, dtype))
            rate = max(rate, limit(given.device, torch.float32))  # in turn with ours, as a machine has slow minutes
            if row.peer:
                peers.append(measure(row.peer, row, given.dim, given.device, dtype))
        a = best(ours)
        memories[row.name, row.batch] = a.memory
        share = row.products * row.batch**row.power * given.dim / rate / a.cpu
        cells = [row.name, str(row.batch), f"{a.wall:.2f} ({a.cpu:.2f})"]
        bars = []
        if peers:
            b = best(peers)
            speed, less = b.cpu / a.cpu, b.memory / max(a.memory, 0.1)
            cells += [
                f"{b.wall:.2f} ({b.cpu:.2f})",
                f"{speed:.2f}x",
                f"{a.memory:.0f}",
                f"{b.memory:.0f}",
                f"{less:.0f}x",
            ]
            bars += [f"speed {row.speed}: {'met' if speed >= row.speed else 'MISSED'}"] if row.speed else []
            bars += [f"memory {row.memory}: {'met' if less >= row.memory else 'MISSED'}"] if row.memory else []
            if abs(a.loss - b.loss) > 1e-3 * max(1, abs(b.loss)) and "shuffled" not in row.name:
                bars.append(f"VALUES DIFFER: {a.loss} and {b.loss}")
        else:
            cells += ["", "", f"{a.memory:.0f}", "", ""]
            bars += [f"at most {row.most:.0f} MiB: {'met' if a.memory <= row.most else 'MISSED'}"] if row.most else []
        print("| " + " | ".join([*cells, f"{share:.0%}", "; ".join(bars)]) + " |", flush=True)
    for (name, B), memory in memories.items():
        if (name, 2 * B) in memories and not name.startswith("symile all"):
            growth = memories[name, 2 * B] / max(memory, 0.1)
            print(f"growth of {name}'s extra memory, B {B} -> {2 * B}: {growth:.2f}x (bar 2.3)")


if __name__ == "__main__":
    main()
