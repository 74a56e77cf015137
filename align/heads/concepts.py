"""Concepts: a head whose dimensions have names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.heads.lexical import Lexical
from align.values import Features


@final
class Concepts(nn.Module):
    """A head around a head: dimension i is the concept ``names[i]`` (SESA, Bogdanova and Yazdani 2017,
    arXiv:1708.03246: embeddings over explicit concepts, learned from pairs).

    Names alone make no meaning. They hold where one side of a term is explicit: ``align.preprocess.Names`` reads a text
    as the names that stand in it, ``Identity`` inside ``Concepts`` leaves them as they are, and the other towers learn
    to agree. ``align search --explain`` says a match by its names.

    names: one for each of the model's ``dim`` dimensions. head: a head, or a callable of width and dim.

    Raises ValueError for another number of names than ``dim``, and for a name that comes twice.
    """

    def __init__(self, width: int, dim: int, names: Sequence[str], head: AnyHead = Lexical):
        super().__init__()
        names = list(names)
        if len(names) != dim:
            raise ValueError(f"a vocabulary has a name for each dimension; got {len(names)} names for a dim of {dim}")
        if len(set(names)) != len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise ValueError(f"the name {twice!r} comes twice in the vocabulary")
        self.width, self.dim, self.names = width, dim, names
        self.head = make_inner(head, width, dim)

    @property
    def resamples(self) -> bool:
        """True where the head inside chooses the number of its tokens."""
        return getattr(self.head, "resamples", False)

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        return self.head(features, tokens=tokens)

    def weigh(self, features: Features) -> Tensor:
        """Return the weights of the concepts (n, D), those below zero as zero."""
        return self.head(features).clamp(min=0)
