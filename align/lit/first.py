"""The first rank of a run, which writes to its folder, also before Lightning joins the ranks."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lightning.fabric.utilities.rank_zero import rank_zero_only

from align.distributed import rank, world


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Return True on the first rank alone.

    Until the ranks are joined, their launcher's environment has the number. Lightning reads it when it is imported,
    which is too early for a process that gets its number later, and it does not look at the number of the node.

    >>> is_first({"RANK": "2", "LOCAL_RANK": "0"}), is_first({"LOCAL_RANK": "0", "SLURM_PROCID": "4"})
    (False, False)
    >>> is_first({"NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1"}), is_first({"NODE_RANK": "1"}), is_first({"RANK": "0"})
    (False, True, True)
    """
    if world() > 1:
        return rank() == 0
    if getattr(rank_zero_only, "rank", 0):
        return False
    if "RANK" in environment:
        return environment["RANK"] == "0"
    names = ["LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"]
    if "MASTER_ADDR" in environment:  # of several nodes, on each of which Lightning starts the ranks
        names += ["NODE_RANK", "GROUP_RANK"]
    return all(environment.get(name, "0") == "0" for name in names)
