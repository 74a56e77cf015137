"""The service behind the API and the page: search, embed, classify, items and their media.

A request takes the ``Loaded`` of its moment, a model with its index, and keeps it to its end. So another one can take
its place between two requests, and none is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, final

import torch
from torch import Tensor

from align.evaluation.classify import Labelled, check_modalities, label_embedded
from align.media.medium import Face
from align.scoring import How
from align.search.approximate import Approximate
from align.search.index import Facet
from align.search.item import Found, Item
from align.search.parts import Part
from align.serve.ask import Ask
from align.serve.decoding import Task
from align.serve.files import Delivery, Form, deliver, draw, list_files, read_row
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.members import Member
from align.serve.readers import Readers, repeat
from align.serve.refusal import Refusal


@final
class Service:
    """The work of the server. Every method may be called by many requests at one time.

    All of them raise Refusal for a request that cannot be answered.

    up: the axis of clouds that stands upright on the page, "y" or "z". None: as their preprocess has it.
    """

    def __init__(self, loaded: Loaded, limits: Limits, *, up: str | None = None):
        self.limits = limits
        self.up = up
        self._loaded = loaded
        self._readers = Readers()
        self.stopping = False  # the server ends soon, so connections close after their answer
        self.draining = False  # new requests are refused
        self.open = 0  # requests that are being answered
        self.trouble = ""  # the reason for which the last reload failed
        self.reloads = 0

    @property
    def loaded(self) -> Loaded:
        """The model and index of new requests."""
        return self._loaded

    def replace(self, loaded: Loaded) -> None:
        """Give new requests another model and index. The old ones close when their last request has ended."""
        old, self._loaded = self._loaded, loaded
        self.reloads += 1
        old.retire()

    def close(self) -> None:
        """End the threads and processes."""
        self._readers.close()
        self._loaded.retire()

    @contextmanager
    def using(self):
        """Hold the present model and index open for a request."""
        loaded = self._loaded
        while not loaded.hold():  # another thread has put a new one in its place since the line above
            if loaded is self._loaded:
                raise Refusal(503, "this server has stopped", code="draining", retry=5)
            loaded = self._loaded
        try:
            yield loaded
        finally:
            loaded.release()

    async def search(
        self,
        parts: Sequence[Ask],
        of: str,
        k: int = 20,
        *,
        where: Mapping[str, Any] | None = None,
        how: How | None = None,
        threshold: float | Literal["calibrated"] | None = None,
        text: str | None = None,
        fold: bool = False,
        like: int | None = None,
        without: Sequence[int] = (),
        correct: bool = True,
    ) -> Found:
        """Return the best items by their rows of modality ``of``, see ``Searcher.search``.

        text: a full text search beside the parts, or alone. like: an item, whose rows ask and which is left out.
        without: items that are left out. correct: as ``Searcher.search`` takes it.
        """
        with self.using() as loaded:
            searcher = loaded.need_index()
            loaded.check_of(of)
            if like is not None:
                loaded.find_item(like)
                more = {"where": loaded.parse(where), "how": how, "threshold": threshold, "fold": fold}
                more["correct"] = correct
                return await self._readers.run(lambda: repeat(lambda: searcher.like(like, of, k, **more)))
            vectors = await asyncio.gather(*(self._vector(loaded, part) for part in parts))
            asked = [Part(part.modality, vector, part.weight) for part, vector in zip(parts, vectors, strict=True)]
            more = {"where": loaded.parse(where), "how": how, "threshold": threshold, "text": text, "fold": fold}
            more |= {"without": without, "correct": correct}
            return await self._readers.run(lambda: repeat(lambda: searcher.find(asked, vectors, of, k, **more)))

    async def embed(self, modality: str, inputs: Sequence[str | bytes | tuple[bytes, str]]) -> Tensor:
        """Return (n, D) for texts or files. A file is its bytes, or (bytes, name)."""
        with self.using() as loaded:
            return await self._embed(loaded, modality, inputs)

    async def classify(
        self,
        classes: Sequence[str] | Mapping[str, str],
        modality: str,
        data: bytes,
        *,
        name: str = "",
        templates: Sequence[str] | None = None,
    ) -> tuple[Labelled, str, list[str]]:
        """Return a file's class, the rule that ranked the classes, and notes, see ``align.classify``."""
        words = dict(classes) if isinstance(classes, Mapping) else {name: name for name in classes}
        with self.using() as loaded:
            loaded.check_modality(modality)
            try:
                check_modalities(loaded.model, {modality: [data]})
            except ValueError as error:
                raise Refusal(422, str(error), param="modality") from None
            row = await self._embed(loaded, modality, [(data, name)])
            rows, how, notes = await loaded.run(
                lambda: label_embedded(loaded.model, words, templates, lambda: {modality: row})
            )
            return rows[0], how, notes

    async def item(self, number: int) -> Item:
        """Return an item by its number."""
        with self.using() as loaded:
            return await self._readers.run(lambda: loaded.find_item(number))

    async def members(self, items: Sequence[Item]) -> list[list[Member]]:
        """Return the files of each item. An item whose files are not at hand has none."""
        with self.using() as loaded:
            return await self._readers.run(lambda: [list_files(loaded, item) for item in items])

    async def media(
        self, number: int, modality: str, row: int = 0, *, member: str | None = None, form: Form = "shown"
    ) -> Delivery:
        """Return a file of an item, see ``files.deliver``."""
        with self.using() as loaded:
            return await deliver(loaded, self._readers, number, modality, row, member=member, form=form)

    async def face(self, number: int, modality: str, row: int = 0) -> Face | None:
        """Return a file of an item made small for a page, or None for one that cannot be shown."""
        with self.using() as loaded:
            return await draw(loaded, self._readers, number, modality, row)

    async def row(self, number: int, modality: str, row: int = 0) -> Tensor:
        """Return a file of an item as its tower's preprocess reads it."""
        with self.using() as loaded:
            return await read_row(loaded, self._readers, number, modality, row)

    async def read(self, modality: str, data: bytes, name: str = "") -> Face | None:
        """Return a visitor's file made small for a page, after it was decoded as for a search."""
        with self.using() as loaded:
            loaded.check_modality(modality)
            return await loaded.decoders.decode(Task("face", modality, loaded.suffix(modality, name), data))

    async def find_trouble(self) -> str:
        """Return a line where the index's vectors are on a server that does not answer now, else ""."""
        with self.using() as loaded:
            index = None if loaded.searcher is None else loaded.searcher.index
            if not isinstance(index, Approximate):
                return ""
            return await asyncio.to_thread(index.trouble)  # the readers may all wait for the server

    async def facets(self, where: Mapping[str, Any] | None = None, *, values: int = 20) -> list[Facet]:
        """Return the keys that a filter can name, with counts, among the items that ``where`` lets through."""
        with self.using() as loaded:
            searcher = loaded.need_index()
            return await self._readers.run(lambda: searcher.index.facets(loaded.parse(where), values=values))

    async def counts(self, where: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Return modality -> the number of items with rows of it, of those that ``where`` lets through."""
        with self.using() as loaded:
            index = loaded.need_index().index
            tree = loaded.parse(where)
            return await self._readers.run(lambda: {m: index.count(m, tree) for m in index.modalities})

    async def examples(self, each: int = 1) -> dict[str, list[int]]:
        """Return modality -> numbers of items that have rows of it, evenly spread over the index."""
        with self.using() as loaded:
            return await self._readers.run(lambda: loaded.examples(each))

    async def _vector(self, loaded: Loaded, part: Ask) -> Tensor:
        if part.id is not None:
            return await self._readers.run(lambda: self._read_stored(loaded, part.modality, part.id or 0))
        if part.text is not None:
            return (await self._embed(loaded, part.modality, [part.text]))[0]
        if part.data is not None:
            return (await self._embed(loaded, part.modality, [(part.data, part.name)]))[0]
        if part.vector is not None:
            loaded.check_modality(part.modality)
            if part.vector.shape != (loaded.model.dim,):
                has = f"an embedding has {loaded.model.dim} numbers, not {part.vector.numel()}"
                raise Refusal(422, has, param="parts")
            return part.vector
        raise Refusal(422, "a part of a query has a text, data or an id", param="parts")

    def _read_stored(self, loaded: Loaded, modality: str, number: int) -> Tensor:
        """Return the mean of an item's unit rows of a modality: (D,)."""
        loaded.find_item(number)
        index = loaded.need_index().index
        loaded.check_of(modality)
        rows = index.rows(modality, [number]).values
        if not isinstance(rows, Tensor) or not len(rows):
            has = [m for m in index.modalities if len(index.rows(m, [number]).sample)]
            raise Refusal(422, f"item {number} has no {modality}; it has {', '.join(has)}", param="parts")
        return torch.nn.functional.normalize(rows, dim=1).mean(0)

    async def _embed(self, loaded: Loaded, modality: str, inputs: Sequence[str | bytes | tuple[bytes, str]]) -> Tensor:
        loaded.check_modality(modality)
        rows: list[Tensor] = []
        together = max(1, self.limits.waiting // 4)  # so that a request of many files leaves the decoders to others
        for start in range(0, len(inputs), together):
            part = inputs[start : start + together]
            rows += await asyncio.gather(*(loaded.row(modality, one) for one in part))
        return await loaded.batcher.embed(modality, rows)
