"""Several processes that run one command: torchrun's or a SLURM step's. The first one prints, and all end alike."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

from align.commands.errors import Refused, explain

R = TypeVar("R")
WAIT = timedelta(days=2)  # for the other ranks, one of which may read a slow disk or measure alone


def in_ranks(command: Callable[..., R]) -> Callable[..., R | None]:
    """Return the command as each process of a launcher runs it: in a process group, so that the ranks share work.

    Where one rank fails, all end with its exit code, and the first rank prints its line. Without a launcher, or with
    one process, the command runs as it is.
    """

    @wraps(command)
    def run(*args: Any, **options: Any) -> R | None:
        started = find_ranks(os.environ)
        if started is None:
            return command(*args, **options)
        from align.distributed import leave

        _join(*started)
        try:
            result = command(*args, **options)
            _agree()
        except Exception as error:
            raise SystemExit(_fail(error)) from None
        leave()
        return result

    return run


def find_ranks(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return (rank, world) of a launcher with several processes, or None.

    torchrun sets RANK, WORLD_SIZE and MASTER_ADDR. A SLURM step (srun) sets SLURM_PROCID and SLURM_STEP_NUM_TASKS.
    Raises Refused for a RANK without an address.

    >>> find_ranks({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}), find_ranks({"RANK": "0", "WORLD_SIZE": "1"})
    ((1, 4), None)
    """
    for number, count in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if number not in environment or count not in environment:
            continue
        rank, world = int(environment[number]), int(environment[count])
        if number == "RANK" and world > 1 and "MASTER_ADDR" not in environment:
            raise Refused(f"RANK={rank} of WORLD_SIZE={world} without MASTER_ADDR: start the processes with torchrun")
        return (rank, world) if world > 1 else None
    return None


def _join(rank: int, world: int) -> None:
    """Join the process group. Tables go from host to host, so it is gloo's on GPUs too."""
    import torch.distributed as dist

    if "RANK" not in os.environ:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
        job = "".join(c for c in os.environ.get("SLURM_JOB_ID", "0") if c.isdigit())
        os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(nodes))
        os.environ.setdefault("MASTER_PORT", str(15000 + int(job[-4:] or 0)))  # as Lightning chooses it
        os.environ.setdefault("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    dist.init_process_group("gloo", rank=rank, world_size=world, timeout=WAIT)


def _agree() -> None:
    from align.distributed import agree

    agree(b"")


def _fail(error: Exception) -> int:
    """Tell the other ranks of an error, or hear of theirs. The first rank prints one line. Return the exit code."""
    from align.distributed import FailedElsewhere, exchange, give_up, leave, rank

    if isinstance(error, FailedElsewhere):
        line, code = error.line, error.code
    else:
        said, code = explain(error)
        if said is None:  # a bug of ours: its rank shows the traceback
            traceback.print_exception(error)
        line = said or f"rank {rank()}: {type(error).__name__}: {error}"
    try:
        if not isinstance(error, FailedElsewhere):
            give_up(line, code)
        if rank() == 0:
            print(f"align: {line}", file=sys.stderr, flush=True)
        exchange(b"")  # nobody leaves before the line is printed: a launcher ends the others at the first exit
    except RuntimeError:  # another process has gone without a word
        print(f"align: rank {rank()}: {line}", file=sys.stderr, flush=True)
        return code
    leave()
    return code
