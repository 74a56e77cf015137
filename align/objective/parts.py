"""Parts of samples: ids by which a loss pairs the rows of one part, such as a region and its phrase."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from align.objective.everyone import NONE, Everyone


def pair_parts(chosen: Sequence[Everyone]) -> list[Everyone]:
    """Return the rows of one call of a loss with an id for each (sample, part) in place of the sample's.

    They change only where the rows of every modality have parts. Else a row about a part stands for its sample: two
    regions are both positives of the sample's caption. In a modality with parts a row about the whole (part -1) pairs
    with rows about the whole. The ids keep the order of (sample, part), and a hard negative stays -1. A grade is one of
    the sample, and so of each of its parts.
    """
    parts = [r.part for r in chosen if r.part is not None]
    if len(parts) < len(chosen):
        return [*chosen]
    most = [_largest(part) for part in parts]
    every = torch.stack(most).amin() > NONE  # on the device: no rank waits for it
    several = torch.stack(most).amax().clamp(min=-1) + 2  # ids of one sample, the whole's among them

    def join(sample: Tensor, part: Tensor) -> Tensor:
        return torch.where(every & (sample >= 0), sample * several + part.clamp(min=-1) + 1, sample)

    return [
        r._replace(sample=join(r.sample, part), against=None if r.against is None else join(r.against, part))
        for r, part in zip(chosen, parts, strict=True)
    ]


def _largest(part: Tensor) -> Tensor:
    """Return the largest of (n,), NONE for n = 0."""
    return torch.cat([part, part.new_full((1,), NONE)]).amax()
