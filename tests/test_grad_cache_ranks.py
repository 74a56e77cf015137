"""Gradient caching on two ranks under DistributedDataParallel: one reduction a step, and ragged rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from chunked import batch, dim, distance, model, names
from ranks import on_ranks
from torch import nn

from align import Batch, Objective, Term
from align.distributed import rank, world
from align.grad_cache import Chunks
from align.losses import InfoNCE, LateInteraction, MemoryQueue, Symile


class Whole(nn.Module):
    """Model and objective under one forward pass, as Lightning's module has them."""

    def __init__(self):
        super().__init__()
        self.model = model(0).eval()  # the noise on the device is for training
        terms = {
            "clip": Term(InfoNCE(), "all"),
            "three": Term(Symile("shuffled"), ["audio", "image", "text"], weight=0.3),
            "filip": Term(LateInteraction(), ["image", "text"]),
            "queue": Term(MemoryQueue(InfoNCE(), 3), ["audio", "touch"]),
        }
        self.objective = Objective(terms, dim=dim, batch=6, modalities=names).double()

    def forward(self, given: Batch, run: Chunks | None) -> torch.Tensor:
        embeddings = self.model(given, tokens=self.objective.tokens, run=run)
        return self.objective(embeddings, generator=torch.Generator().manual_seed(1))[0]


def gradients(whole: Any, given: Batch, run: Chunks | None) -> dict[str, torch.Tensor]:
    """Those of the second step of the same batch, whose queue is filled."""
    for _ in range(2):
        whole.zero_grad()
        loss = whole(given, run)
        loss.backward()
    named = {name.removeprefix("module."): p.grad for name, p in whole.named_parameters()}
    return {"loss": loss.detach()} | named


def case_ddp() -> Any:
    """Rank 0 reads all its rows of audio at a time, rank 1 in chunks."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

    parallel = nn.parallel.DistributedDataParallel(Whole())
    reductions = []

    def reduce(state, bucket):
        reductions.append(bucket.index())
        return allreduce_hook(state, bucket)

    parallel.register_comm_hook(None, reduce)
    given = batch(part=rank(), parts=world())
    found = gradients(parallel, given, Chunks({"audio": 2, "image": 1, "text": 3}, names))
    return found, len(reductions), {m: rows.n for m, rows in given.items()}


@pytest.mark.slow  # DistributedDataParallel imports half of torch, on each rank
def test_two_ranks_in_chunks_are_one_process(tmp_path):
    wanted = gradients(Whole(), batch(), None)
    results = on_ranks([case_ddp], tmp_path)["case_ddp"]
    for found, reductions, _ in results:
        assert distance(found, wanted) <= 1e-11
        assert reductions in (2, 3, 4)  # of two steps; the first one finds the order of the buckets
    counts = [counts for *_, counts in results]
    assert (counts[0]["audio"], counts[1]["audio"]) != (2, 2)
    print(counts, [r for _, r, _ in results])
