"""Views: a loss between the rows of one modality that share a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from align.losses.loss import Given, apply
from align.losses.wrappers.wrapper import Wrapper


@final
class Views(Wrapper):
    """A loss between two modalities, taken between rows of one: the first row of each sample, and its other rows.

    The rows are two augmentations of one (``data.views``), or a sample's several pictures, sounds or captions. It is
    the intra-modal term of cross-modal retrieval of sheet music and audio (Carvalho et al. 2023, arXiv:2309.12134,
    after SimCLR, arXiv:2002.05709). With InfoNCE a first row has all other rows of the batch as candidates
    and the reverse. SimCLR also has first rows as negatives of first rows.

    In a config:

        sounds:
          loss: {class_path: align.losses.Views, init_args: {loss: {class_path: align.losses.InfoNCE}}}
          between: [audio]

    A sample with one row is a negative of the others. A row with sample id -1 is one of the candidates. Scoring does
    not read the term, so rows of the modality are compared by cosines.

    loss: a loss between two modalities, or a wrapper around one, without a bank.

    Raises ValueError for another loss.
    """

    def __init__(self, loss: nn.Module):
        super().__init__(loss)
        self.check_pair()
        self.kind, self.takes_rule = "intra", False

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start the inner loss, for two sets of rows."""
        super().start(dim, 2, batch)

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modality of the next calls, and its other rows ``MODALITY_views``."""
        super().between([*modalities, *(f"{m}_views" for m in modalities)])

    def around(self, given: Given) -> Tensor:
        """Return the inner loss of first rows and other rows."""
        first = find_first(given.samples[0])
        sides = (first, ~first)
        made = Given([given.embeddings[0][s] for s in sides], [given.samples[0][s] for s in sides])
        made = made._replace(generator=given.generator, part=given.part, merge=given.merge)
        if given.groups is not None:
            made = made._replace(groups=[given.groups[0][s] for s in sides])
        if given.weights is not None:
            made = made._replace(weights=[given.weights[0][s] for s in sides])
        if given.tokens is not None:
            rows, mask = given.tokens[0]
            made = made._replace(tokens=[(rows[s], mask[s]) for s in sides])
        return apply(self.loss, made)


def find_first(sample: Tensor) -> Tensor:
    """Return (n,) bool, true for the first row of each sample. A row of id -1 is never one."""
    if not len(sample):
        return torch.zeros(0, dtype=torch.bool, device=sample.device)
    order = sample.argsort(stable=True)
    ordered = sample[order]
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    first = torch.zeros_like(fresh)
    first[order] = fresh
    return first & (sample >= 0)
