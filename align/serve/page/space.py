"""The things that the page asks of the server's service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from align.media import Media
from align.media.medium import Face
from align.search.index import Facet
from align.search.item import Found, Item
from align.search.parts import Part


class Place(NamedTuple):
    """The place of a file in an item: its modality, its number among the files of that, and its suffix."""

    modality: str
    row: int
    suffix: str


class Space(Protocol):
    """An index, its model and its media, as the page sees them. Every method may raise ``Trouble``."""

    @property
    def title(self) -> str:
        """The name of the index, without its place."""
        ...

    @property
    def model(self) -> str:
        """The name of the model, without its place."""
        ...

    @property
    def up(self) -> str:
        """The axis of point clouds that stands upright, "y" or "z"."""
        ...

    @property
    def media(self) -> Media:
        """Media of the index's files."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """Modalities that are asked with words."""
        ...

    @property
    def takes(self) -> set[str]:
        """Elements of the media of these modalities."""
        ...

    @property
    def towers(self) -> Sequence[str]:
        """Modalities that can be asked with."""
        ...

    async def count(self, where: Mapping[str, Any] | None = None) -> Mapping[str, int]:
        """Return the samples that have rows of each modality."""
        ...

    async def facets(self, where: Mapping[str, Any] | None = None) -> list[Facet]:
        """Return the keys that a filter can name."""
        ...

    async def examples(self) -> Mapping[str, int]:
        """Return a sample of each modality that can be asked with."""
        ...

    async def guess(self, name: str, data: bytes) -> list[str]:
        """Return the modalities that a file can be of, by its name and its first bytes, the likeliest first."""
        ...

    async def embed(self, modality: str, data: bytes, name: str) -> Tensor:
        """Return the embedding (D,) of a file."""
        ...

    async def embedding(self, modality: str, number: int) -> Tensor:
        """Return the embedding (D,) of an item's first row of a modality."""
        ...

    async def search(
        self,
        parts: Sequence[Part],
        of: str,
        k: int,
        *,
        where: Mapping[str, Any] | None = None,
        text: str | None = None,
        fold: bool = False,
    ) -> Found:
        """Return the best samples, see ``Searcher.search``."""
        ...

    async def classify(self, classes: Sequence[str], modality: str, vector: Tensor) -> list[tuple[str, float]]:
        """Return the classes with their probabilities, or their cosines where no term is trained, best first."""
        ...

    async def items(self, numbers: Sequence[int]) -> list[Item]:
        """Return the items with these numbers."""
        ...

    async def members(self, number: int) -> list[Place]:
        """Return the files of an item."""
        ...

    async def face(self, number: int, modality: str, row: int) -> Face | None:
        """Return a file made small, or None where it cannot be shown."""
        ...

    async def content(self, number: int, modality: str, row: int) -> bytes:
        """Return a file's stored bytes."""
        ...

    def link(self, number: int, modality: str, row: int, *, shown: bool) -> str:
        """Return the relative address of a file: in a form that browsers show, or as it is stored."""
        ...
