"""Rows 3 and 6 for sharded runs: a rank that dies in the middle of a save, and a run that goes on as another number."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from unittest.mock import patch

import pytest
from ranks import on_ranks
from sharded_runs import STEPS, go, rows
from tiny import write

from align.checkpoint import read_index
from align.distributed import rank

SHARDS, RUN = Path("shards"), Path("run")


def case_dies() -> int:
    """Rank VICTIM gets SIGKILL where it has begun to write its shards of the second checkpoint."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    write_data, calls = HuggingFaceStorageWriter.write_data, []

    def dying(self, plan, planner):
        calls.append(1)
        if len(calls) == 2 and str(rank()) == os.environ["VICTIM"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return write_data(self, plan, planner)

    with patch.object(HuggingFaceStorageWriter, "write_data", dying):
        go(SHARDS, RUN, "fsdp2")
    return 0


def case_goes_on() -> int:
    go(SHARDS, RUN, "fsdp2")
    return 0


@pytest.mark.sweep  # starts four times two or three ranks
@pytest.mark.parametrize(("victim", "world"), [(0, 1), (1, 2), (1, 3)])
def test_a_rank_that_dies_in_a_save_tears_no_checkpoint(tmp_path, monkeypatch, fault, victim, world):
    row = fault(
        "3",
        f"rank {victim} of two killed in a sharded save, {world} go on",
        torn_checkpoints=0,
        saved_before_is_there=True,
        steps_once=True,
        losses_equal=True,
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VICTIM", str(victim))
    for name in ("first", "second"):
        Path(name).mkdir()
    write(write(SHARDS), "test", 20)
    go(SHARDS, Path("straight"), "")
    with pytest.raises(RuntimeError):
        on_ranks([case_dies], tmp_path / "first", seconds=200)
    names = sorted(path.name for path in (RUN / "checkpoints").glob("step-*"))
    there = names == ["step-00000001"] and read_index(RUN)["last"] == names[0]
    if world == 1:
        go(SHARDS, RUN, "")
    else:
        on_ranks([case_goes_on], tmp_path / "second", world=world, seconds=200)
    table, straight = rows(RUN), rows(Path("straight"))
    row.measured(
        torn_checkpoints=len(names) - 1,
        saved_before_is_there=there,
        steps_once=[line[0] for line in table] == list(range(1, STEPS + 1)),
        losses_equal=all(
            abs(a - b) <= 1e-11 * abs(b)
            for x, y in zip(table, straight, strict=True)
            for a, b in zip(x[:3], y[:3], strict=True)
        ),
    )
    shutil.rmtree(RUN)
