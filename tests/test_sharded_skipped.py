"""A step that is not finite in a run of two sharded ranks: both skip it, and no shard of anything changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from ranks import on_ranks
from sharded_runs import go
from tiny import write
from torch import Tensor

from align.distributed import rank
from align.lit import AlignModule
from align.optim import Ema, Optim

SHARDS, RUNS = Path("shards"), Path("runs")


class Poison(L.Callback):
    """Makes a row of rank 1 NaN in step 2, and notes a digest of this rank's shards before each step."""

    def __init__(self):
        self.digests: list[str] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, AlignModule)
        optimizer = trainer.optimizers[0]
        found = [*pl_module.parameters(), *(x for state in optimizer.state.values() for x in state.values())]
        found = [getattr(x, "_local_tensor", x) for x in found if isinstance(x, Tensor)]
        numbers = repr([group.get("averaged_steps") for group in optimizer.param_groups])
        content = b"".join(x.detach().numpy().tobytes() for x in found) + numbers.encode()
        self.digests.append(hashlib.sha256(content).hexdigest())
        if pl_module.step == 1 and rank() == 1:
            batch["audio"].values[0] = float("nan")


def case_skips() -> list[list[str]]:
    found = []
    for name, optim in (("plain", Optim(lr=0.01, clip=0.5)), ("average", Optim(lr=0.01, clip=0.5, ema=Ema()))):
        poison = Poison()
        go(SHARDS, RUNS / name, "fsdp2", trainer={"callbacks": [poison]}, optim=optim)
        found.append(poison.digests)
    return found


@pytest.mark.sweep
def test_two_sharded_ranks_skip_a_step_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranks").mkdir()
    write(write(SHARDS, missing=0), "test", 20)
    for of_rank in on_ranks([case_skips], tmp_path / "ranks", seconds=600)["case_skips"]:
        for digests in of_rank:
            assert digests[1] == digests[2]  # before and after step 2
            assert len({*digests}) == 3
    for name in ("plain", "average"):
        (line,) = map(json.loads, (RUNS / name / "skipped.jsonl").read_text().splitlines())
        assert (line["step"], line["rank"], [*line["modalities"]]) == (2, 1, ["audio"])
