"""The service as the page sees it: refusals become sentences beside their causes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

from starlette.concurrency import run_in_threadpool
from torch import Tensor

from align.evaluation.classify import label_embedded
from align.media import MEDIA, Media
from align.media.choice import with_named
from align.media.medium import Face, Medium
from align.media.video import VIDEO
from align.search.index import Facet
from align.search.item import Found, Item
from align.search.threshold import Threshold, name_threshold
from align.serve.ask import Ask
from align.serve.heat import heat_url
from align.serve.page.trouble import Trouble
from align.serve.refusal import Refusal
from align.serve.service import Service

PLACES = {"parts": "parts", "modality": "parts", "id": "parts", "where": "filters", "of": "of", "classes": "classes"}
"""Fields of the API by the places of the page's sentences."""

VALUES = 200  # values of a key that a filter lists
ELEMENTS = ("picture", "sound", "cloud", "drawing", "text")


class Place(NamedTuple):
    """The place of a file in an item: its modality, its number among the files of that, and its suffix."""

    modality: str
    row: int
    suffix: str


@final
class Space:
    """An index, its model and its media. Its methods raise Trouble where the service raises Refusal."""

    def __init__(self, service: Service):
        self.service = service

    @property
    def title(self) -> str:
        """The name of the index without its folder, or that of the model."""
        searcher = self.service.loaded.searcher
        folder = getattr(searcher.index, "folder", None) if searcher is not None else None
        if folder is None:
            return self.model
        folder = Path(folder).resolve()
        return folder.parent.name if folder.name == "index" else folder.name

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.service.loaded.name

    @property
    def texts(self) -> Sequence[str]:
        """Modalities that are asked with words."""
        return self.service.loaded.texts

    @property
    def kinds(self) -> dict[str, Medium]:
        """Media of the model's modalities."""
        return {m: p.medium for m, p in self.service.loaded.model.preprocess.items() if p.medium is not None}

    @property
    def media(self) -> Media:
        """Media of the index's files."""
        return with_named(MEDIA, self.kinds)

    @property
    def takes(self) -> set[str]:
        """Elements of the media that can be asked with, "video" for a picture that moves."""
        found = {(medium.element, medium.suffixes) for medium in self.kinds.values() if medium.element is not None}
        return {"video" if suffixes == VIDEO.suffixes else element for element, suffixes in found}

    @property
    def doubtful(self) -> list[str]:
        """Modalities that a file can be of when its suffix fits more than one."""
        suffixes = {m: set(_suffixes(medium)) for m, medium in self.kinds.items() if m not in self.texts}
        return [m for m, have in suffixes.items() if any(have & other for n, other in suffixes.items() if n != m)]

    def up(self, modality: str) -> str:
        """Return the axis of a modality's clouds that stands upright, "y" or "z"."""
        return self.service.up or str(getattr(self.service.loaded.model.preprocess.get(modality), "up", "z"))

    def fitting(self, name: str) -> list[str]:
        """Return the modalities that a file of this name can be of."""
        suffix = name.rpartition(".")[2].lower()
        return [m for m, medium in self.kinds.items() if m not in self.texts and suffix in _suffixes(medium)]

    def readable(self) -> str:
        """Return the suffixes of the files that can be asked with, in words."""
        found = dict.fromkeys(s for m, medium in self.kinds.items() if m not in self.texts for s in _suffixes(medium))
        return ", ".join(found)

    async def count(self) -> dict[str, int]:
        """Return the samples that have rows of each modality, in the order of the controls."""
        with _troubles():
            found = await self.service.counts()
        return dict(sorted(found.items(), key=lambda entry: self.order(entry[0])))

    async def facets(self, where: Mapping[str, Any] | None = None) -> list[Facet]:
        """Return the keys that a filter can name."""
        with _troubles():
            return await self.service.facets(where, values=VALUES)

    async def examples(self) -> dict[str, int]:
        """Return a sample of each modality that can be asked with."""
        found = await self.service.examples(7)
        have = self.service.loaded.model.modalities
        chosen = {m: numbers[i % len(numbers)] for i, (m, numbers) in enumerate(found.items()) if numbers}
        return {m: chosen[m] for m in sorted(chosen, key=self.order) if m in have}

    async def embed(self, modality: str, data: bytes, name: str) -> Tensor:
        """Return the embedding (D,) of a file."""
        with _troubles(name):
            return (await self.service.embed(modality, [(data, name)]))[0]

    async def search(
        self,
        parts: Sequence[Ask],
        of: str,
        k: int,
        *,
        where: Mapping[str, Any] | None = None,
        text: str | None = None,
        fold: bool = False,
        without: Sequence[int] = (),
    ) -> Found:
        """Return the best samples, see ``Service.search``."""
        with _troubles():
            return await self.service.search(parts, of, k, where=where, text=text, fold=fold, without=without)

    async def read_threshold(self, modalities: Sequence[str], of: str, how: str) -> Threshold | None:
        """Return the least score that the index keeps for parts of weight 1 of these modalities, or None."""
        with _troubles(), self.service.using() as loaded:
            about = await run_in_threadpool(lambda: loaded.need_index().index.about)
        kept = (about.get("threshold") or {}).get(name_threshold(modalities, of, how))
        return None if kept is None else Threshold(*(kept[name] for name in Threshold._fields))

    async def classify(self, classes: Sequence[str], modality: str, vector: Tensor) -> tuple[dict[str, float], bool]:
        """Return the classes with their values, best first, and True where these are probabilities."""
        with _troubles(), self.service.using() as loaded:
            if "text" not in loaded.model.modalities:
                raise Refusal(422, "this model reads no class names", param="classes")
            words = {name: name for name in classes}
            rows, _, _ = await loaded.run(
                lambda: label_embedded(loaded.model, words, None, lambda: {modality: vector[None]})
            )
            values = rows[0].probabilities or rows[0].scores
            return dict(sorted(values.items(), key=lambda entry: -entry[1])), rows[0].probabilities is not None

    async def items(self, numbers: Sequence[int]) -> list[Item]:
        """Return the items with these numbers."""
        with _troubles(), self.service.using() as loaded:
            index = loaded.need_index().index
            try:
                return await run_in_threadpool(index.items, list(numbers))
            except (KeyError, OverflowError):
                return [await self.service.item(number) for number in numbers]  # which names the one that is missing

    async def members(self, item: Item) -> list[Place]:
        """Return the files of an item."""
        with _troubles():
            return [Place(one.modality, one.row, one.suffix) for one in (await self.service.members([item]))[0]]

    async def face(self, number: int, modality: str, row: int) -> Face | None:
        """Return a file made small, or None where it cannot be shown."""
        with _troubles():
            try:
                return await self.service.face(number, modality, row)
            except Refusal as error:
                if error.status == 422:
                    return None
                raise

    async def content(self, number: int, modality: str, row: int) -> bytes:
        """Return a file's stored bytes."""
        with _troubles():
            found = await self.service.media(number, modality, row, form="original")
            return b"".join(found.content.read())

    async def heat_link(self, number: int, modality: str, words: str) -> str:
        """Return the relative address of the words' heat map over a picture, "" where the tower makes none."""
        with _troubles(), self.service.using() as loaded:
            made = words.strip() and loaded.texts and await loaded.has_grid(modality)
        return heat_url(number, modality, words) if made else ""

    def link(self, number: int, modality: str, row: int, *, shown: bool) -> str:
        """Return the relative address of a file: in a form that browsers show, or as it is stored."""
        return f"v1/items/{number}/media/{modality}?row={row}&form={'shown' if shown else 'original'}"

    def order(self, modality: str) -> tuple[int, int]:
        """Return the place of a modality among the controls: pictures come first and texts last, as in the model."""
        medium, known = self.kinds.get(modality), list(self.service.loaded.model.modalities)
        element = medium.element if medium is not None and medium.element is not None else "drawing"
        return ELEMENTS.index(element), known.index(modality) if modality in known else len(known)


@contextmanager
def _troubles(name: str = "") -> Iterator[None]:
    """Raise a refusal as a sentence. name: of the file that it is about."""
    try:
        yield
    except Refusal as error:
        message = error.message.removesuffix(".")
        sentence = f"{name}: {message}." if name else f"{message[:1].upper()}{message[1:]}."
        place = "parts" if name else PLACES.get(error.param or "", "")
        raise Trouble(sentence, place, error.status, error.retry or None) from None


def _suffixes(medium: Medium) -> tuple[str, ...]:
    return (*medium.suffixes, *medium.files)
