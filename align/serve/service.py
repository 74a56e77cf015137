"""The service behind the API and the page: search, embed, classify, items and their media.

A request takes the ``Loaded`` of its moment, a model with its index, and keeps it to its end. So another one can take
its place between two requests, and none is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, final

import torch
from torch import Tensor

from align.evaluation.classify import Labelled, check_modalities, label_embedded
from align.media.medium import Face
from align.scoring import How
from align.search.index import Facet
from align.search.item import Found, Item
from align.search.parts import Part
from align.serve.decoding import Shown, Task
from align.serve.kinds import HEAD, OPAQUE, media_type, shown_type
from align.serve.limits import Limits
from align.serve.loaded import Loaded
from align.serve.members import Member, Slice, file_name, of_bytes, of_member
from align.serve.refusal import Refusal, suggest

Form = Literal["original", "shown"]
T = TypeVar("T")
SEARCHERS = 4  # threads that read the index
TRIES = 5
PAUSE = 0.1  # seconds
log = logging.getLogger("align.serve")


@final
@dataclass(frozen=True)
class Ask:
    """A part of a query as a visitor gives it: a text, a file's bytes, or an item of the index.

    name: of the file. Only its suffix is read, which tells a mesh's format. id: an item, whose stored rows ask.
    vector: (D,), the embedding that a file has become.
    """

    modality: str
    text: str | None = None
    data: bytes | None = None
    name: str = ""
    id: int | None = None
    weight: float = 1.0
    vector: Tensor | None = None


@final
@dataclass(frozen=True)
class Delivery:
    """A file on its way to a browser. name: for the visitor's disk. inline: it may be shown, not only saved."""

    content: Slice
    type: str
    name: str
    inline: bool


@final
class Service:
    """The work of the server. Every method may be called by many requests at one time.

    All of them raise Refusal for a request that cannot be answered.
    """

    def __init__(self, loaded: Loaded, limits: Limits):
        self.limits = limits
        self._loaded = loaded
        self._threads = ThreadPoolExecutor(SEARCHERS, "search")
        self.draining = False
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
        self._threads.shutdown(wait=False)
        self._loaded.retire()

    @contextmanager
    def using(self):
        """Hold the present model and index open for a request."""
        loaded = self._loaded
        loaded.hold()
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
    ) -> Found:
        """Return the best items by their rows of modality ``of``, see ``Searcher.search``.

        text: a full text search beside the parts, or alone. like: an item, whose rows ask and which is left out.
        """
        with self.using() as loaded:
            searcher = loaded.need_index()
            loaded.check_of(of)
            if like is not None:
                self._number(loaded, like)
                more = {"where": loaded.parse(where), "how": how, "threshold": threshold, "fold": fold}
                return await self._in_thread(lambda: _again(lambda: searcher.like(like, of, k, **more)))
            vectors = await asyncio.gather(*(self._vector(loaded, part) for part in parts))
            asked = [Part(part.modality, vector, part.weight) for part, vector in zip(parts, vectors, strict=True)]
            more = {"where": loaded.parse(where), "how": how, "threshold": threshold, "text": text, "fold": fold}
            return await self._in_thread(lambda: _again(lambda: searcher.find(asked, vectors, of, k, **more)))

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
            return await self._in_thread(lambda: self._number(loaded, number))

    async def members(self, items: Sequence[Item]) -> list[list[Member]]:
        """Return the files of each item. An item whose files are not at hand has none."""
        with self.using() as loaded:
            return await self._in_thread(lambda: [self._members(loaded, item) for item in items])

    async def media(
        self, number: int, modality: str, row: int = 0, *, member: str | None = None, form: Form = "shown"
    ) -> Delivery:
        """Return a file of an item.

        form: "original", as it is stored, or "shown", in a form that browsers show. That is the file itself, else a
        picture of WebP or a sound of FLAC. Other media are shown by their ``face``, and come as they are stored.
        member: its member name, in place of modality and row.
        """
        with self.using() as loaded:
            item, one = await self._in_thread(lambda: self._find(loaded, number, modality, row, member))
            name = file_name(item, one)
            content = of_member(one)
            if form == "original":
                type = media_type(one.suffix)
                return Delivery(content, type, name, inline=type != OPAQUE)
            head = await self._in_thread(lambda: b"".join(content.read(0, min(HEAD, content.size))))
            if type := shown_type(head, one.suffix):
                return Delivery(content, type, name, inline=True)
            shown: Shown | None = await loaded.decoders.decode(await self._task("shown", one, content))
            if shown is None:
                return Delivery(content, media_type(one.suffix), name, inline=False)
            return Delivery(of_bytes(shown.data), shown.type, name, inline=True)

    async def face(self, number: int, modality: str, row: int = 0) -> Face | None:
        """Return a file of an item made small for a page, or None for one that cannot be shown."""
        with self.using() as loaded:
            _, one = await self._in_thread(lambda: self._find(loaded, number, modality, row, None))
            content = of_member(one)
            key = (content.tag, one.modality)
            if (kept := loaded.faces.get(key)) is not None:
                return kept
            face: Face | None = await loaded.decoders.decode(await self._task("face", one, content))
            if face is not None:
                loaded.faces.put(key, face)
            return face

    async def read(self, modality: str, data: bytes, name: str = "") -> Face | None:
        """Return a visitor's file made small for a page, after it was decoded as for a search."""
        with self.using() as loaded:
            loaded.check_modality(modality)
            return await loaded.decoders.decode(Task("face", modality, loaded.suffix(modality, name), data))

    async def facets(self, where: Mapping[str, Any] | None = None, *, values: int = 20) -> list[Facet]:
        """Return the keys that a filter can name, with counts, among the items that ``where`` lets through."""
        with self.using() as loaded:
            searcher = loaded.need_index()
            return await self._in_thread(lambda: searcher.index.facets(loaded.parse(where), values=values))

    async def counts(self, where: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Return modality -> the number of items with rows of it, of those that ``where`` lets through."""
        with self.using() as loaded:
            index = loaded.need_index().index
            tree = loaded.parse(where)
            return await self._in_thread(lambda: {m: index.count(m, tree) for m in index.modalities})

    async def examples(self, each: int = 1) -> dict[str, list[int]]:
        """Return modality -> numbers of items that have rows of it, evenly spread over the index."""
        with self.using() as loaded:
            return await self._in_thread(lambda: loaded.examples(each))

    async def _vector(self, loaded: Loaded, part: Ask) -> Tensor:
        if part.id is not None:
            return await self._in_thread(lambda: self._read_stored(loaded, part.modality, part.id or 0))
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
        self._number(loaded, number)
        index = loaded.need_index().index
        loaded.check_of(modality)
        rows = index.rows(modality, [number]).values
        if not isinstance(rows, Tensor) or not len(rows):
            has = [m for m in index.modalities if len(index.rows(m, [number]).sample)]
            raise Refusal(422, f"item {number} has no {modality}; it has {', '.join(has)}", param="parts")
        return torch.nn.functional.normalize(rows, dim=1).mean(0)

    async def _embed(self, loaded: Loaded, modality: str, inputs: Sequence[str | bytes | tuple[bytes, str]]) -> Tensor:
        loaded.check_modality(modality)
        rows = await asyncio.gather(*(loaded.row(modality, one) for one in inputs))
        return await loaded.batcher.embed(modality, rows)

    def _number(self, loaded: Loaded, number: int) -> Item:
        try:
            return loaded.need_index().index.items([number])[0]
        except (KeyError, OverflowError):
            raise Refusal(404, f"there is no item {number}", code="no_such_item", param="id") from None

    def _members(self, loaded: Loaded, item: Item) -> list[Member]:
        try:
            return loaded.members.list_members(item)
        except Refusal:
            return []

    def _find(self, loaded: Loaded, number: int, modality: str, row: int, member: str | None) -> tuple[Item, Member]:
        item = self._number(loaded, number)
        found = loaded.members.list_members(item)
        for one in found:
            if (one.modality, one.row) == (modality, row) if member is None else one.name == member:
                return item, one
        names = [one.name for one in found] if member else list(dict.fromkeys(one.modality for one in found))
        wanted = member or (modality if row == 0 else f"{modality} {row}")
        raise Refusal(404, f"item {number} has no {wanted[:60]!r}; {suggest(wanted, names)}", code="no_such_file")

    async def _task(self, kind: str, member: Member, content: Slice) -> Task:
        if member.size < 0:  # a file of its own, which may have others beside it
            return Task(kind, member.modality, member.suffix, member.path)
        data = await self._in_thread(lambda: b"".join(content.read()))
        return Task(kind, member.modality, member.suffix, data)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work. An error of the search's (ValueError) becomes a 422, one of the disk's a 503."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ValueError as error:
            damaged = " damaged" in str(error)
            raise Refusal(503 if damaged else 422, hide_paths(str(error))) from None
        except OSError as error:
            log.error("the index cannot be read: %s", error)
            raise Refusal(503, "the index cannot be read; the server's log says why", retry=5) from None


def hide_paths(text: str) -> str:
    """Return a message with the names of files and folders in place of their paths.

    >>> hide_paths("/home/me/idx/segments/1.x is damaged")
    '1.x is damaged'
    """
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)", r"\1", text)


def _again(work: Callable[[], T]) -> T:
    """Return work's value, for work that meets a writer.

    It is done again where an item that it found has been deleted meanwhile (KeyError), and in the moment in which
    another index takes the folder's place (OSError).
    """
    for _ in range(TRIES - 1):
        try:
            return work()
        except KeyError:
            continue
        except OSError:
            time.sleep(PAUSE)
    return work()
