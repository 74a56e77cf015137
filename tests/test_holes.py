"""Batches with holes, from shards to gradients: equal to a loop over the pairs that exist, on one process and two."""

from __future__ import annotations

import pytest
import torch
from ranks import on_ranks
from tiny import made, modalities, write
from torch import Tensor, nn

from align import Batch, JointModel, Objective, Rows, Shards
from align.data import Loader


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """48 samples; each modality is missing in 40 % of them; two rows of `text` where it is there; some have nothing."""
    return write(tmp_path_factory.mktemp("holes"))


def by_hand(model: JointModel, batch: Batch, scale: Tensor) -> Tensor:
    """The sum over pairs of modalities of CLIP's loss with several positives, written as loops."""
    embedded = {}
    for m in modalities:
        rows = batch[m]
        out = [model.towers[m].head(model.towers[m].encoder(rows.values[i : i + 1].double())) for i in range(rows.n)]
        embedded[m] = [(v[0] / v[0].norm(), int(s)) for v, s in zip(out, rows.sample, strict=True)]
    pairs = [("image", "audio"), ("image", "text"), ("audio", "text")]
    total = torch.zeros((), dtype=torch.float64)
    for left, right in pairs:
        for a, b in ((embedded[left], embedded[right]), (embedded[right], embedded[left])):
            terms = []
            for x, s in a:
                logits = [scale * (x @ y) for y, _ in b]
                positives = [k for k, (_, t) in enumerate(b) if t == s]
                if positives:
                    below = torch.logsumexp(torch.stack(logits), 0)
                    terms.append(sum(below - logits[k] for k in positives) / len(positives))
            if terms:
                total = total + sum(terms) / len(terms) / 2
    return total


def test_loss_and_gradients_are_those_of_a_loop_over_the_pairs_that_exist(shards):
    model, objective = made()
    preprocess = {m: model.towers[m].preprocess for m in modalities}
    loader = Loader(Shards(str(shards / "train-*.tar")), preprocess, batch=12, workers=0, train=True, steps=4)
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.1)
    seen = 0
    for batch in loader:
        assert batch.size == 12
        counts = {m: batch[m].n for m in modalities}
        assert len(set(counts.values())) > 1
        loss, _ = objective(model(batch))
        parameters = [*model.parameters(), *objective.parameters()]
        ours = torch.autograd.grad(loss, parameters)
        scale = objective.losses["all"].scale
        right = by_hand(model, batch, scale)
        theirs = torch.autograd.grad(right, parameters)
        torch.testing.assert_close(loss, right.reshape(()), rtol=1e-6, atol=1e-9)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
        for parameter, gradient in zip(parameters, ours, strict=True):
            parameter.grad = gradient
        optimizer.step()
        seen += 1
    assert seen == 4


def batch_of(present: dict[str, list[int]], size: int, seed: int = 3) -> Batch:
    """Rows of the given samples, values a function of (modality, sample)."""
    rows = {}
    for m in modalities:
        samples = present.get(m, [])
        draws = [
            torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 100 * s + len(m)))
            for s in samples
        ]
        values = torch.stack(draws) if draws else torch.zeros(0, 6, dtype=torch.float64)
        rows[m] = Rows(values, torch.tensor(samples, dtype=torch.long))
    return Batch(rows, [str(i) for i in range(size)], torch.arange(size))


def test_a_batch_without_a_row_of_one_modality_trains():
    model, objective = made()
    loss, _ = objective(model(batch_of({"image": [0, 1, 2], "text": [0, 2, 2]}, 3)))
    loss.backward()
    for m in modalities:
        for name, parameter in model.towers[m].named_parameters():
            assert parameter.grad is not None, (m, name)
            assert bool((parameter.grad != 0).any()) == (m != "audio"), (m, name)
    assert torch.isfinite(loss)


def step(model: nn.Module, objective: Objective, batch: Batch) -> dict[str, Tensor]:
    """Gradients of one batch, by name; under DDP the mean over the ranks."""
    loss, _ = objective(model(batch))
    loss.backward()
    inner = getattr(model, "module", model)
    return {
        n: p.grad.clone() for module in (inner, objective) for n, p in module.named_parameters() if p.grad is not None
    }


def on_a_rank() -> dict[str, Tensor]:
    """Samples 0, 2, 4 on rank 0 and 1, 3, 5 on rank 1; only rank 1 has audio."""
    from torch.distributed import all_reduce

    from align.distributed import rank as own_rank
    from align.distributed import world as all_ranks

    rank, world = own_rank(), all_ranks()
    model, objective = made()
    parts = [{"image": [0, 1, 2], "text": [0, 1, 1]}, {"image": [0, 2], "audio": [0, 1, 2], "text": [0, 2]}]
    whole = parts[rank]
    batch = batch_of({}, 3)
    for m in modalities:
        samples = [s * 2 + rank for s in whole.get(m, [])]
        rows = batch_of({m: samples}, 6)[m]
        batch.rows[m] = Rows(rows.values, torch.tensor(whole.get(m, []), dtype=torch.long))
    gradients = step(model, objective, batch)
    for value in gradients.values():
        all_reduce(value)
        value /= world  # what DDP does
    return gradients


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return on_ranks([on_a_rank], tmp_path_factory.mktemp("ranks"))


def test_two_ranks_of_which_one_has_the_modality_equal_one_process(two_ranks):
    model, objective = made()
    whole = batch_of({"image": [0, 1, 2, 4, 5], "audio": [1, 3, 5], "text": [0, 1, 2, 2, 5]}, 6)
    want = step(model, objective, whole)
    for got in two_ranks["on_a_rank"]:
        assert got.keys() == want.keys()
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=1e-9, atol=1e-11, msg=name)
