"""FSDP2 beside the other settings of a run: the losses are those of one process, and a cut run goes on to the bit."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import on_ranks
from sharded_runs import CUT, go
from tiny import Dense, dim, modalities, write
from torch import Tensor, nn

from align import Features, JointModel, Objective, Term, Tower
from align.diagnostics import Diagnose
from align.encoders.transformer import Block, run_blocks
from align.losses import Bank, InfoNCE, Matryoshka, MemoryQueue
from align.model.compute import Compute
from align.optim import Constant, Ema, Joined, Optim
from align.preprocess import Array
from align.tuning import Tuning

SHARDS, RUNS = Path("shards"), Path("runs")


class Tokens(nn.Module):
    """A transformer whose tokens are the six numbers of a vector."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.width, self.first = width, nn.Linear(1, width)
        self.blocks = nn.ModuleList(Block(width, 2) for _ in range(2))

    def forward(self, values: Tensor) -> Features:
        return Features(run_blocks(self.blocks, self.first(values[..., None].to(self.first.weight.dtype))).mean(1))


def make(loss: Any = InfoNCE, dtype: torch.dtype = torch.float64) -> tuple[JointModel, Objective]:
    torch.manual_seed(0)
    towers = {m: Tower(Array((6,)), Tokens() if m == "image" else Dense()) for m in modalities}
    objective = Objective({"all": Term(loss(), "all")}, dim=dim, batch=12, modalities=[*modalities])
    return JointModel(towers, dim).to(dtype), objective.to(dtype)


def muon(groups: list[dict]) -> torch.optim.Optimizer:
    return Joined(groups, torch.optim.Muon, torch.optim.AdamW)


def schedule_free(groups: list[dict]) -> torch.optim.Optimizer:
    from schedulefree import AdamWScheduleFree

    return AdamWScheduleFree(groups)


def half(precision: str) -> dict[str, Any]:
    return {"trainer": {"precision": precision, "val_check_interval": 2}, "made": partial(make, dtype=torch.float32)}


EVALUATORS = {"with": ["retrieval"], "every_steps": 2}
FROZEN = Tuning(freeze=["model.towers.text.*"])
SETTINGS: dict[str, dict[str, Any]] = {
    "average and evaluators": {"optim": Optim(lr=0.01, ema=Ema(0.9)), "validate": EVALUATORS},
    "no clipping": {"optim": Optim(lr=0.01, clip=0)},
    "schedule-free": {"optim": Optim(lr=0.01, optimizer=schedule_free, schedule=Constant())},
    "muon": {"optim": Optim(lr=0.01, optimizer=muon)},
    "frozen tower": {"tuning": FROZEN},
    "frozen parts": {"tuning": Tuning(freeze=["model.towers.image.encoder.blocks.0.*", "*.first.weight"])},
    "checkpointing": {"compute": Compute(checkpointing=True)},
    "compile": {"compute": Compute(compile=True, backend="aot_eager")},
    "queue": {"made": partial(make, lambda: MemoryQueue(InfoNCE(), 16))},
    "bank": {"made": partial(make, lambda: Bank(InfoNCE(), of="text")), "tuning": FROZEN},
    "matryoshka": {"made": partial(make, lambda: Matryoshka(InfoNCE(), [2, 4]))},
    "bf16-mixed": half("bf16-mixed"),
    "bf16-true": half("bf16-true"),
    "16-true": half("16-true"),
}
CLOSE = {"muon": 1e-3, "bf16-mixed": 0.02, "bf16-true": 0.1, "16-true": 0.1}
"""Of losses. Muon's products are of bfloat16, whatever the weights are. Adam enlarges the rounding of half weights."""


def train(name: str, run: str, strategy: str, cut: int | None = None) -> None:
    given = {"made": make, "diagnose": Diagnose(every_steps=2)} | SETTINGS[name]
    given["trainer"] = {"val_check_interval": 2} | given.get("trainer", {})
    go(SHARDS, RUNS / run, strategy, cut=cut, **given)


def case_settings() -> int:
    for name in SETTINGS:
        train(name, f"{name} sharded", "fsdp2")
        train(name, f"{name} cut", "fsdp2", CUT)
        train(name, f"{name} cut", "fsdp2")
    return 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    (folder / "ranks").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        write(write(SHARDS), "test", 20)
        for name in SETTINGS:
            train(name, f"{name} alone", "")
        on_ranks([case_settings], folder / "ranks", seconds=900)
        yield folder


def read(run: str) -> list[dict[str, float]]:
    """Return the rows of a run's metrics.csv, without the columns that tell the time."""
    with (RUNS / run / "metrics.csv").open(newline="") as f:
        kept = ("step", "loss", "grad_norm", "val", "diagnose", "scale")
        return [{k: float(x) for k, x in row.items() if x and k.split("/")[0] in kept} for row in csv.DictReader(f)]


@pytest.mark.sweep  # 42 runs
@pytest.mark.parametrize("name", SETTINGS)
def test_a_sharded_run_is_the_run_of_one_process_and_goes_on_to_the_bit(runs, name):
    alone, sharded, cut = (read(f"{name} {kind}") for kind in ("alone", "sharded", "cut"))
    assert sharded == cut
    assert [row.keys() for row in sharded] == [row.keys() for row in alone]
    for found, expected in zip(sharded, alone, strict=True):
        for column in ("loss", "grad_norm", "val/loss") if name in CLOSE else expected:
            assert found.get(column, 0) == pytest.approx(expected.get(column, 0), rel=CLOSE.get(name, 1e-9), abs=1e-12)
