"""A query in one space of a model whose heads are ``align.heads.Streams``, asked of an index of whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.blocks import Block, find_block, place
from align.model import JointModel
from align.model.spaces import list_spaces
from align.search.item import Hit
from align.search.parts import Part


@final
@dataclass(frozen=True)
class Subspace:
    """One space of a model: its name, its block, the modalities that have it, and the root of the number of spaces.

    The block of each stored row has the length 1 / ``lift``, as Streams makes it. So the product with a unit vector
    that is 0 outside of the block, times ``lift``, is the cosine in the space, exact in every index.
    """

    name: str
    block: Block
    modalities: Sequence[str]
    lift: float

    def ask(self, parts: Sequence[Part], vectors: Sequence[Tensor]) -> tuple[list[Part], list[Tensor]]:
        """Return the parts of a query and their vectors (D,) in the space."""
        inside = [F.normalize(place(x[slice(*self.block)], self.block, len(x)), dim=0) for x in vectors]
        return [replace(part, weight=part.weight * self.lift) for part in parts], inside

    def lift_hits(self, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits with each part's cosine in the space."""
        return [hit._replace(cosines={name: x * self.lift for name, x in hit.cosines.items()}) for hit in hits]

    def check(self, modality: str) -> None:
        """Raise ValueError for a modality whose tower has no spaces: its blocks have any length."""
        if modality not in self.modalities:
            have = ", ".join(self.modalities)
            raise ValueError(f"the head of {modality} has no space {self.name!r}; search among {have}")


def find_space(model: JointModel, name: str) -> Subspace:
    """Return a space of a model. Raises ValueError, with the names that there are, where it has no such space."""
    found = list_spaces(model)
    if not found:
        raise ValueError("the model has no spaces: no tower's head is align.heads.Streams")
    names = next(iter(found.values()))
    return Subspace(name, find_block(names, name, model.dim), [*found], len(names) ** 0.5)
