"""The training loop of the comparisons, and batches that are drawn from tensors in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from align import JointModel, Objective
from align.losses import Loss
from align.values import Batch


def fit(
    losses: Iterable[Tensor],
    parts: Sequence[nn.Module],
    rate: float,
    *,
    cycle: int | None = None,
    warm: float = 0.3,
    decay: float = 0.01,
    clip: float | None = None,
) -> None:
    """Take a step of AdamW after each loss.

    losses: computes each loss when it is asked for, so with the weights after the step before. parts: modules that
    learn; they are in training mode meanwhile and in evaluation mode after it, and temperatures are clamped. cycle:
    number of steps over which the rate rises for the share `warm` and falls again, None for a constant rate. clip:
    largest norm of the gradients.
    """
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, cycle, pct_start=warm) if cycle else None
    for part in parts:
        part.train()
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(weights, clip)
        optimizer.step()
        if rates is not None:
            rates.step()
        for part in parts:
            if isinstance(part, Loss | Objective):
                part.clamp_()
    for part in parts:
        part.eval()


def train(
    model: JointModel,
    objective: Objective,
    batches: Iterable[Batch],
    steps: int,
    rate: float = 2e-3,
    *,
    generator: torch.Generator | None = None,
    decay: float = 0.01,
    clip: float | None = None,
) -> None:
    """Train a model on batches with a cycle of the rate over the steps. generator: draws for the losses."""
    tokens = objective.tokens
    losses = (objective(model(batch, tokens=tokens), generator=generator)[0] for batch in batches)
    fit(losses, [model, objective], rate, cycle=steps, decay=decay, clip=clip)


def draw(count: int, size: int, steps: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield (size,) different samples of `count` for each step, by torch's own generator where none is given."""
    for _ in range(steps):
        yield torch.randperm(count, generator=generator)[:size]


def take(batch: Batch, samples: Tensor, *, stable: bool = True) -> Batch:
    """Return some samples of a batch (n,), with all their rows. stable: rows of one sample keep their order."""
    number = torch.full((batch.size,), -1)
    number[samples] = torch.arange(len(samples))
    rows = {}
    for m, given in batch.items():
        assert isinstance(given.values, Tensor)
        owner = number[given.sample]
        order = owner.argsort(stable=stable)[int((owner < 0).sum()) :]
        rows[m] = given._replace(values=given.values[order], sample=owner[order])
    ids, labels = ([given[i] for i in samples.tolist()] for given in (batch.ids, batch.labels))
    group = None if batch.group is None else batch.group[samples]
    return Batch(rows, ids, batch.position[samples], labels, group=group)
