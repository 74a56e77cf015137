"""Spaces: a loss in one space of embeddings that have several, or between two spaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from align.losses.kernels.blocks import Block, cut, find_block
from align.losses.kernels.inputs import check_embeddings
from align.losses.loss import Given, apply
from align.losses.wrappers.wrapper import Wrapper


@final
class Spaces(Wrapper):
    """A loss on blocks of the embeddings, which ``align.heads.Streams`` makes: a space on each side.

    It is a term of one stream (MeDSLIP, Fan et al. 2024, arXiv:2403.10635, section 3), for any loss. The logits are
    scale times the cosine in the space. Scoring reads the term in its space too, in retrieval, zero-shot and search.

    In a config, for towers whose heads are Streams of ``shape`` and ``material``:

        shape:
          loss:
            class_path: align.losses.Spaces
            init_args:
              spaces: [shape, material]
              space: shape
              loss: {class_path: align.losses.InfoNCE}
          between: [image, text]

    loss: a loss of embeddings of D / k coordinates. spaces: the k names, in the heads' order.
    space: the space of all modalities, or modality -> its space. Without ``between`` modalities are "0", "1", …
    The two sides are two modalities. `Across` is MeDSLIP's term across the streams of one row.
    A tower without Streams lends its coordinates as they stand.

    Raises ValueError for a space that is none of ``spaces``, at the start for a dim that they do not divide, and in the
    forward pass for a modality without a space.
    """

    def __init__(self, loss: nn.Module, spaces: list[str], space: str | dict[str, str]):
        super().__init__(loss)
        if self.kind == "across":
            raise ValueError("Spaces goes around a loss without Across, which reads two spaces itself")
        if self.needs_numbers:
            raise ValueError("Spaces goes inside Bank, whose rows are whole, not around it: Bank(Spaces(loss))")
        for name in [space] if isinstance(space, str) else space.values():
            find_block(spaces, name, len(spaces))
        self.spaces, self.space, self.dim = spaces, space, len(spaces)
        self._names: tuple[str, ...] | None = None

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start the inner loss with the size of a block."""
        find_block(self.spaces, self.spaces[0], dim)
        self.dim = dim
        super().start(dim // len(self.spaces), modalities, batch)

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modalities of the next calls."""
        self._names = tuple(modalities)
        super().between(modalities)

    def list_blocks(self, modalities: Sequence[str]) -> tuple[Block, ...]:
        """Return the block of each modality's embedding, of the dim at the start."""
        return tuple(find_block(self.spaces, self._name(m), self.dim) for m in modalities)

    def list_prefixes(self) -> tuple[int, ...]:
        """Return none: the inner loss's are prefixes of a block, not of the whole embedding."""
        return ()

    def around(self, given: Given) -> Tensor:
        """Return the inner loss of the blocks."""
        check_embeddings(given.embeddings)
        names = self._names or [str(i) for i in range(len(given.samples))]
        dim = given.embeddings[0].shape[1]
        blocks = [find_block(self.spaces, self._name(m), dim) for m in names]
        inside = given._replace(embeddings=[cut(x, b) for x, b in zip(given.embeddings, blocks, strict=True)])
        if given.tokens is not None:
            tokens = [(cut(x, b), mask) for (x, mask), b in zip(given.tokens, blocks, strict=True)]
            inside = inside._replace(tokens=tokens)
        return apply(self.loss, inside)

    def _name(self, modality: str) -> str:
        if isinstance(self.space, str):
            return self.space
        if modality not in self.space:
            raise ValueError(f"space names no space of {modality!r}; it has {', '.join(self.space)}")
        return self.space[modality]
