"""Two gloo ranks for a test module: started once, one thread each, every case run inside.

A module-scoped fixture returns ``on_ranks([case_a, case_b], tmp_path_factory.mktemp("ranks"))``; a test then reads
``first, second = two_ranks["case_a"]``, what ``case_a()`` returned on rank 0 and on rank 1.
"""

from __future__ import annotations

import multiprocessing
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

Case = Callable[[], Any]


def on_ranks(cases: Sequence[Case], folder: Path, world: int = 2, seconds: float = 120) -> dict[str, list[Any]]:
    """What each case, a function at the top of its module, returned on each rank: name -> [rank 0's, rank 1's, ...].

    A case returns what ``torch.save`` takes: tensors, numbers, lists, dicts. folder is empty and on a local disk.
    """
    context = multiprocessing.get_context("forkserver")  # a fork of pytest's own process would inherit torch's threads
    more = [name for name in ("lightning.pytorch", "torch._dynamo") if name in sys.modules]  # one import for all ranks
    context.set_forkserver_preload(["torch", "torch.distributed", *more])
    processes = [context.Process(target=_rank, args=(r, world, list(cases), str(folder))) for r in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    errors = [path.read_text() for r in range(world) if (path := folder / f"error-{r}").exists()]
    if errors or any(process.exitcode for process in processes):
        raise RuntimeError("\n".join(errors) or f"ranks ended with {[p.exitcode for p in processes]}")
    results = [torch.load(folder / f"result-{r}", weights_only=True) for r in range(world)]
    return {case.__name__: [result[case.__name__] for result in results] for case in cases}


def _rank(rank: int, world: int, cases: list[Case], folder: str) -> None:
    torch.set_num_threads(1)
    name = ""
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        results = {}
        for case in cases:
            name = case.__name__
            torch.manual_seed(0)
            results[name] = case()
        dist.barrier()
        dist.destroy_process_group()
        torch.save(results, f"{folder}/result-{rank}")
    except BaseException:
        Path(folder, f"error-{rank}").write_text(f"rank {rank}, {name}:\n{traceback.format_exc()}")
        raise SystemExit(1) from None
