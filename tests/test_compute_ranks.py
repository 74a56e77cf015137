"""Compiled and checkpointed encoders on two ranks under DistributedDataParallel: the gradients of plain ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from chunked import distance
from ranks import on_ranks
from torch import nn

from align import Batch, JointModel, Objective, Rows, Term, Tower
from align.distributed import rank
from align.encoders import TransformerText
from align.losses import InfoNCE
from align.model.compute import Compute, computing
from align.preprocess import Bytes

NAMES = ["answer", "question"]


class Whole(nn.Module):
    """Model and objective under one forward pass, as Lightning's module has them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        towers = {m: Tower(Bytes(12), TransformerText(259, 12, width=16, depth=2, heads=2)) for m in NAMES}
        self.model = JointModel(towers, 8).double()
        self.objective = Objective({"clip": Term(InfoNCE(), NAMES)}, dim=8, batch=9).double()

    def forward(self, given: Batch) -> torch.Tensor:
        return self.objective(self.model(given))[0]


def make_batch(step: int) -> Batch:
    """Rank 0 has 3 and then 5 samples, rank 1 has 4 and 6. One has no answer."""
    n = 3 + rank() + 2 * step
    values = torch.randint(1, 200, (n, 12), generator=torch.Generator().manual_seed(n))
    samples = torch.arange(n)
    rows = {"question": Rows(values, samples), "answer": Rows(values.flip(1)[1:], samples[1:])}
    return Batch(rows, [f"{rank()}/{i}" for i in range(n)], samples)


def gradients(compute: Compute) -> dict[str, torch.Tensor]:
    """Those of the second of two steps, whose numbers of rows differ."""
    whole = Whole()
    with computing(whole.model, compute):
        parallel = nn.parallel.DistributedDataParallel(whole)
        for step in range(2):
            whole.zero_grad()
            loss = parallel(make_batch(step))
            loss.backward()
    return {"loss": loss.detach()} | {name: p.grad for name, p in whole.named_parameters() if p.grad is not None}


def case_compiled() -> Any:
    return gradients(Compute()), gradients(Compute(compile=True, backend="aot_eager"))


def case_checkpointed() -> Any:
    return gradients(Compute()), gradients(Compute(checkpointing=True))


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return on_ranks([case_compiled, case_checkpointed], tmp_path_factory.mktemp("ranks"), seconds=500)


@pytest.mark.sweep
@pytest.mark.parametrize("case", ["case_compiled", "case_checkpointed"])
def test_the_gradients_are_those_of_plain_towers(two_ranks, case):
    for wanted, found in two_ranks[case]:
        assert list(wanted) == list(found)
        assert distance(found, wanted) < 1e-9
