"""Runs of two or three gloo ranks, sharded by FSDP2 or not, for tests/test_sharded.py."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from cut import Cut, Kill
from tiny import Dense, dim, modalities
from torch import Tensor, nn

from align import Features, JointModel, Objective, Term, Tower
from align.distributed import rank, world
from align.lit import AlignData, Checkpoints, fit
from align.losses import InfoNCE
from align.optim import Optim
from align.preprocess import Array

STEPS, CUT = 4, 2


class Deep(nn.Module):
    """Two blocks under a first layer. Their widths are odd, so that no two ranks hold the same number of rows."""

    def __init__(self, width: int = 5):
        super().__init__()
        self.width = width
        self.first = nn.Linear(6, width)
        self.blocks = nn.Sequential(nn.Linear(width, width), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Features:
        return Features(self.blocks(self.first(values).tanh()))


def make() -> tuple[JointModel, Objective]:
    """Return a model of three towers, two of which share an encoder, and its objective, in float64."""
    torch.manual_seed(0)
    towers = {m: Tower(Array((6,)), Deep() if m == "image" else Dense()) for m in modalities}
    towers["audio"] = Tower(Array((6,)))
    model = JointModel(towers, dim, share={"audio": "image"}).double()
    return model, Objective({"all": Term(InfoNCE(), "all")}, dim=dim, batch=12, modalities=[*modalities]).double()


@contextmanager
def started() -> Iterator[None]:
    """Let Lightning see the ranks of tests/ranks.py as those that torchrun starts."""
    env = {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": str(world()), "TORCHELASTIC_RUN_ID": "test"}
    env |= {"LOCAL_WORLD_SIZE": str(world()), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    with patch.dict(os.environ, env if world() > 1 else {}):
        yield


def go(
    shards: Path,
    run: Path,
    strategy: str,
    *,
    cut: int | None = None,
    node: dict[str, str] | None = None,
    **options: Any,
) -> None:
    """Train the run, or go on with it. cut: die after this step."""
    model, objective = options.pop("made", make)()
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "max_steps": STEPS, "val_check_interval": 4}
    given |= {"devices": world(), "precision": "32-true"} | options.pop("trainer", {})
    if world() > 1:
        given["strategy"] = strategy
    if cut is not None:
        given["callbacks"] = [Kill(cut + 1)]
    data = AlignData(str(shards / "train-*.tar"), str(shards / "test-*.tar"), batch=12, workers=0)
    options = {"optim": Optim(lr=0.01, clip=0.5), "checkpoint": Checkpoints(every_steps=1, keep=9), **options}
    with started(), patch.dict(os.environ, node or {}):
        try:
            fit(model, objective, data, run, trainer=given, **options)
        except Cut:
            assert cut is not None


def rows(run: Path) -> list[list[float]]:
    """Return step, loss, norm of the gradient and loss of validation (0 where there is none) of each step's row."""
    columns = ("step", "loss", "grad_norm", "val/loss")
    with (run / "metrics.csv").open(newline="") as f:
        return [[float(row[c] or 0) for c in columns] for row in csv.DictReader(f) if row["step"] != "0"]
