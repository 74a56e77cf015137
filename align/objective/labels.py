"""Labels of a batch as a loss reads them: the places of each row's labels among the classes of one attribute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.distributed import gather, rank, world
from align.losses.kernels.labels import find_places
from align.values import Embeddings


def gather_labels(embeddings: Embeddings, attribute: str, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the global ids (N,) of the samples on all ranks, ascending, and the places (N, K) of their labels.

    Every rank must call it. Raises ValueError where the batch has no labels, or the loss no classes.
    """
    size, device = embeddings.size, embeddings.position.device
    if not classes:
        raise ValueError(f"a loss reads the classes of {attribute!r} and knows none: call name_classes([...])")
    if len(embeddings.labels) != size:
        raise ValueError(f"a loss reads labels: set batch.labels, one for each of the {size} samples")
    places = find_places(embeddings.labels, attribute, classes).to(device)
    most = int(gather(torch.tensor([places.shape[1]], device=device)).max())
    ids = torch.arange(size, device=device) * world() + rank()
    table = gather(torch.cat([ids[:, None], F.pad(places, (0, most - places.shape[1]), value=-1)], dim=1))  # (N, 1 + K)
    table = table[table[:, 0].argsort()]
    return table[:, 0].contiguous(), table[:, 1:].contiguous()


def label_rows(sample: Tensor, ids: Tensor, places: Tensor) -> Tensor:
    """Return (n, K), the places of each row's labels. A row of id -1 has none.

    sample: (n,) global ids. ids, places: as ``gather_labels`` gives them.
    """
    if not len(ids):
        return places.new_full((len(sample), places.shape[1]), -1)
    at = torch.searchsorted(ids, sample).clamp(max=len(ids) - 1)
    known = (ids[at] == sample) & (sample >= 0)
    return torch.where(known[:, None], places[at], -1)
