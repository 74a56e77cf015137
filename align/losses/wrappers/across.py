"""Across: a loss between two spaces of the rows of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from align.losses.kernels.blocks import check_spaces, cut, find_block
from align.losses.kernels.inputs import check_embeddings
from align.losses.loss import Given, apply
from align.losses.wrappers.spaces import Spaces
from align.losses.wrappers.wrapper import Wrapper


@final
class Across(Wrapper):
    """A loss between two modalities, taken between two blocks of each row, which ``align.heads.Streams`` makes.

    It is MeDSLIP's term across the streams of one picture (Fan et al. 2024, arXiv:2403.10635, section 3, intra-image
    contrast) for whole pictures: the two spaces of a row are a pair, and those of other rows are negatives.

    In a config, for a tower whose head is Streams of ``shape`` and ``material``:

        across:
          loss:
            class_path: align.losses.Across
            init_args:
              spaces: [shape, material]
              pair: [shape, material]
              loss: {class_path: align.losses.InfoNCE}
          between: [image]

    Several rows of one sample are pairs of each other too. A row with sample id -1 is left out. Scoring does not read
    the term.

    loss: a loss between two modalities, of embeddings of D / k coordinates. spaces: the k names, in the head's order.
    pair: two of them.

    Raises ValueError for another loss, for a pair that is none of two spaces, and at the start for a dim that the
    spaces do not divide.
    """

    def __init__(self, loss: nn.Module, spaces: list[str], pair: list[str]):
        super().__init__(loss)
        self.check_pair()
        if any(isinstance(part, Spaces) for part in loss.modules()):
            raise ValueError("Across goes around a loss without Spaces: its pair names the spaces")
        if len({*pair}) != 2 or len(pair) != 2:
            raise ValueError(f"pair names two spaces; got {pair}")
        for name in pair:
            find_block(spaces, name, len(spaces))
        self.spaces, self.pair = spaces, pair
        self.kind, self.takes_rule = "across", False

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Start the inner loss with the size of a block, for two sets of rows."""
        check_spaces(self.spaces, dim)
        super().start(dim // len(self.spaces), 2, batch)

    def between(self, modalities: Sequence[str]) -> None:
        """Name the modality of the next calls. The inner loss has ``MODALITY_SPACE`` twice."""
        super().between([f"{m}_{space}" for m in modalities for space in self.pair])

    def list_blocks(self, modalities: Sequence[str]) -> tuple[()]:
        """Return none: scoring does not read the term."""
        return ()

    def list_prefixes(self) -> tuple[int, ...]:
        """Return none: the inner loss's are prefixes of a block, not of the whole embedding."""
        return ()

    def around(self, given: Given) -> Tensor:
        """Return the inner loss of the two blocks of the rows."""
        check_embeddings(given.embeddings)
        (rows,), (sample,) = given.embeddings, given.samples
        there = sample >= 0
        blocks = [find_block(self.spaces, name, rows.shape[1]) for name in self.pair]
        made = Given([cut(rows[there], block) for block in blocks], [sample[there]] * 2)
        made = made._replace(generator=given.generator, part=given.part, merge=given.merge)
        if given.groups is not None:
            made = made._replace(groups=[given.groups[0][there]] * 2)
        if given.weights is not None:
            made = made._replace(weights=[given.weights[0][there]] * 2)
        if given.tokens is not None:
            tokens, mask = given.tokens[0]
            made = made._replace(tokens=[(cut(tokens[there], block), mask[there]) for block in blocks])
        return apply(self.loss, made)
