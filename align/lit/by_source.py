"""The loss of each source in a batch that is mixed of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from align.objective import Objective
from align.values import Embeddings


@torch.no_grad()
def losses(
    objective: Objective, embeddings: Embeddings, names: Sequence[str], draw: Callable[[], torch.Generator]
) -> dict[str, Tensor]:
    """Return source -> the objective with this source's samples alone as anchors, and the whole batch as negatives.

    So a source's loss is its share of the batch's. Where no row is missing and every sample has a source, the mean of
    the sources' losses, weighted by their samples, is the loss of the batch in evaluation mode (a queue is neither read
    nor written). A loss that takes no weights has the same value for every source. Each source costs one forward pass
    of the losses.

    names: the sources, equal on all ranks, which all make this call. draw: returns a new generator of the step, so that
    each source meets the negatives that the batch was trained with.
    """
    mode = objective.training
    objective.eval()
    try:
        weight = embeddings.weight
        if weight is None:
            weight = torch.ones(embeddings.size, device=embeddings.position.device)
        of = [torch.tensor([name == source for source in embeddings.source]) for name in names]
        return {
            name: objective(replace(embeddings, weight=weight * chosen.to(weight)), generator=draw())[0]
            for name, chosen in zip(names, of, strict=True)
        }
    finally:
        objective.train(mode)
