"""What sharing a loss out saves: CPU seconds and extra memory of each rank, on 1, 2 and 4 gloo ranks.

    python tests/benchmarks/ranks.py                       # infonce B=8192 and symile all B=384, D=512
    python tests/benchmarks/ranks.py --every               # every loss, B=2048 (fewer for tuples and tokens), D=256
    python tests/benchmarks/ranks.py --whole               # beside it: every rank computes the whole loss

One thread a rank. Each rank holds the gathered rows (as after ``distributed.gather``), takes part=(rank, ranks) of the
loss, and merges. Extra memory is VmHWM above the state before the call, after writing 5 to /proc/self/clear_refs. It
holds the gradient of all gathered rows, which does not fall with the ranks (its MiB stand in a column), and the tiles
and matrices, which do.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from align import losses
from align.distributed import merge
from align.losses import Loss


def peak() -> int:
    """KiB, the largest resident memory since clear_refs."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


class Case(NamedTuple):
    """A loss, its number of rows and modalities, D, and tokens a row, 0 where it reads none."""

    name: str
    make: Callable[[], Loss]
    B: int
    M: int = 2
    dim: int = 512
    length: int = 0

    @property
    def gradients(self) -> float:
        """MiB of the gradients of all gathered rows that a gradient goes to."""
        M = {"Distill": 2, "Regress": 1}.get(self.name, self.M)
        return M * self.B * self.dim * max(1, self.length) * 4 / 2**20


def cases(every: bool) -> list[Case]:
    if not every:
        return [
            Case("infonce", lambda: losses.InfoNCE(start_scale=14.3), 8192),
            Case("symile all", lambda: losses.Symile("all", start_scale=200.0), 384, 3),
        ]
    small: dict[str, Any] = {"dim": 256}
    return [
        Case("InfoNCE", losses.InfoNCE, 2048, **small),
        Case("SigLIP", losses.SigLIP, 2048, **small),
        Case("Symile, partial", lambda: losses.Symile(start_scale=200.0), 1024, 3, **small),
        Case("Gram", losses.Gram, 1024, 3, **small),
        Case("Triangle", losses.Triangle, 1024, 3, **small),
        Case("Hinge, hardest", losses.Hinge, 2048, **small),
        Case("Hinge, sum", lambda: losses.Hinge(negatives="sum"), 2048, **small),
        Case("LateInteraction", losses.LateInteraction, 256, 2, 64, 16),
        Case("Transport", lambda: losses.Transport(steps=5), 128, 2, 64, 16),
        Case("Transport, none", lambda: losses.Transport("none", steps=5), 2048, 2, 64, 16),
        Case("Distill", losses.Distill, 2048, 4, **small),
        Case("Regress", losses.Regress, 8192, **small),
        Case("AlignUniform", losses.AlignUniform, 2048, **small),
        Case("VICReg", losses.VICReg, 8192, **small),
        Case("HardNegatives(InfoNCE)", lambda: losses.HardNegatives(losses.InfoNCE(), 2.0), 2048, **small),
        Case("Matryoshka(InfoNCE)", lambda: losses.Matryoshka(losses.InfoNCE(), [64, 256]), 2048, **small),
        Case("MemoryQueue(InfoNCE)", lambda: losses.MemoryQueue(losses.InfoNCE(), 2048), 2048, **small),
        Case("MixGeodesic(InfoNCE)", lambda: losses.MixGeodesic(losses.InfoNCE()), 2048, **small),
        Case("Window(InfoNCE)", lambda: losses.Window(losses.InfoNCE(), "0", high=0.9), 2048, **small),
    ]


def rank_of(rank: int, world: int, folder: str, whole: bool, rounds: int, every: bool, only: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world)
    out: dict[str, Any] = {}
    for case in cases(every):
        if only and not any(word in case.name for word in only):
            continue
        for turn in range(rounds + 1):  # the first warms up
            draw = torch.Generator().manual_seed(0)
            shape = (case.B, case.length, case.dim) if case.length else (case.B, case.dim)
            xs = [F.normalize(torch.randn(*shape, generator=draw), dim=-1) for _ in range(case.M)]
            for x in xs:
                x.requires_grad_()
            loss = case.make()
            rows = [x.detach()[:, 0] if case.length else x for x in xs]
            more: dict[str, Any] = {} if whole or world == 1 else {"part": (rank, world), "merge": merge}
            if case.length:
                more["tokens"] = [(x, torch.ones(x.shape[:2], dtype=torch.bool)) for x in xs]
            ids = [torch.arange(case.B)] * case.M
            gc.collect()
            if platform.libc_ver()[0] == "glibc":
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            dist.barrier()
            Path("/proc/self/clear_refs").write_text("5")
            before, cpu = peak(), time.process_time()
            value = loss(rows, ids, generator=torch.Generator().manual_seed(0), **more)
            value.backward()
            used = (time.process_time() - cpu, (peak() - before) / 1024, float(value.detach()))
            if turn:
                out[case.name] = min(out.get(case.name, used), used)
            del xs, rows, value, loss, more
    torch.save(out, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--every", action="store_true", help="every loss and wrapper, with fewer rows")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of losses")
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    size = {case.name: case for case in cases(given.every)}
    found: dict[tuple[bool, int], dict[str, Any]] = {}
    for whole in [False, True] if given.whole else [False]:
        for world in given.ranks:
            if whole and world == 1:
                continue
            with tempfile.TemporaryDirectory() as folder:
                args = (world, folder, whole, given.rounds, given.every, given.only)
                mp.spawn(rank_of, args, nprocs=world)
                of = [torch.load(f"{folder}/{r}.pt") for r in range(world)]
            found[whole, world] = {
                name: (max(f[name][0] for f in of), max(f[name][1] for f in of), of[0][name][2]) for name in of[0]
            }
    first = found[next(iter(found))]
    print("| loss | B | | ranks | CPU s a rank | times less | MiB a rank | of it gradients | loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in first:
        for (whole, world), of in found.items():
            cpu, memory, value = of[name]
            said = "whole" if whole else "in parts"
            print(
                f"| {name} | {size[name].B} | {said} | {world} | {cpu:.3f} | {first[name][0] / cpu:.2f} | {memory:.1f} "
                f"| {size[name].gradients:.1f} | {value:.6f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
