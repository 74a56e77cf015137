"""What sharing the tiles out saves: CPU seconds and extra memory of each rank, on 1, 2 and 4 gloo ranks.

    python tests/benchmarks/ranks.py                # infonce B=8192 and symile all B=384, D=512, one thread a rank
    python tests/benchmarks/ranks.py --whole        # beside it: every rank computes the whole loss

Each rank holds the gathered rows (as after ``distributed.gather``), takes part=(rank, ranks) of the loss, and merges.
Extra memory is VmHWM above the state before the call, after writing 5 to /proc/self/clear_refs; it holds the gradient
of all gathered rows, which does not fall with the ranks, and the tiles, which do.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from align.distributed import merge
from align.losses import infonce, symile


def peak() -> int:
    """KiB, the largest resident memory since clear_refs."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def rank_of(rank: int, world: int, folder: str, whole: bool, rounds: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world)
    out: dict[str, Any] = {}
    for name, B, M in (("infonce", 8192, 2), ("symile all", 384, 3)):
        for turn in range(rounds + 1):  # the first warms up
            draw = torch.Generator().manual_seed(0)
            xs = [F.normalize(torch.randn(B, 512, generator=draw), dim=1).requires_grad_() for _ in range(M)]
            share: dict[str, Any] = {} if whole or world == 1 else {"part": (rank, world), "merge": merge}
            gc.collect()
            if platform.libc_ver()[0] == "glibc":
                ctypes.CDLL("libc.so.6").malloc_trim(0)
            dist.barrier()
            Path("/proc/self/clear_refs").write_text("5")
            before, cpu = peak(), time.process_time()
            loss = infonce(*xs, 14.3, **share) if M == 2 else symile(xs, 200.0, negatives="all", **share)
            loss.backward()
            used = (
                time.process_time() - cpu,
                (peak() - before) / 1024,
                float(loss.detach()),
            )
            if turn:
                out[name] = min(out.get(name, used), used)
    torch.save(out, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    given = parser.parse_args()
    print("| loss | ranks | | CPU s a rank | against one | MiB a rank | loss |")
    print("|---|---|---|---|---|---|---|")
    first: dict[str, float] = {}
    for whole in [False, True] if given.whole else [False]:
        for world in given.ranks:
            if whole and world == 1:
                continue
            with tempfile.TemporaryDirectory() as folder:
                mp.spawn(rank_of, (world, folder, whole, given.rounds), nprocs=world)
                found = [torch.load(f"{folder}/{r}.pt") for r in range(world)]
            for name in found[0]:
                cpu, memory = max(f[name][0] for f in found), max(f[name][1] for f in found)
                first.setdefault(name, cpu)
                said = "whole" if whole else "in parts"
                print(
                    f"| {name} | {world} | {said} | {cpu:.2f} | {first[name] / cpu:.2f}x | {memory:.0f} "
                    f"| {found[0][name][2]:.6f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
