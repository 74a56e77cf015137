"""The data of the gallery: queries, and for each ordered pair of modalities their nearest answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from align.data.names import FOREIGN, MemberNames
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.media.medium import Face
from align.page.faces import caption, face, size
from align.page.section import Gallery as Samples
from align.page.section import Section
from align.report.nearest import Found, Hit, hits, nearest, spread
from align.values import Embeddings, Sample


class Item(NamedTuple):
    """A sample. faces: by modality, those that the page shows. caption: the words under a face."""

    key: str
    faces: dict[str, Face]
    caption: str = ""


class Answer(NamedTuple):
    """An answer. item: index into ``Gallery.items``. score: its cosine. hit: True if it counts as right."""

    item: int
    score: float
    hit: bool


class Query(NamedTuple):
    """An item, asked in modality ``of`` among all rows of modality ``to``. The best answer comes first."""

    item: int
    of: str
    to: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Gallery:
    """All items and queries of a gallery. up: the axis of point clouds that stands upright, "y" or "z"."""

    items: Sequence[Item]
    queries: Sequence[Query]
    up: str = "z"


class _Ask(NamedTuple):
    sample: int
    of: str
    to: str
    found: list[Found]


def build_gallery(
    embeddings: Embeddings,
    samples: Shards | Mapping[str, Sample] | Iterable[Sample],
    *,
    queries: int = 12,
    k: int = 5,
    hit: Hit | None = None,
    up: str = "z",
    max_bytes: int = 5_500_000,
    media: Media = MEDIA,
) -> Gallery:
    """Return queries spread over the samples, and their k nearest answers for each ordered pair of modalities.

    Args:
        embeddings: of B samples. Rows (n,D) of each modality are normalised here again.
        samples: the embedded shards, of which only the shown samples are read. Or samples by id, or an iterable of
            samples.
        hit: ``hit(i, j)`` of two samples in 0..B-1, or B groups of which equal ones hit (None or -1: no group).
            Default: ``embeddings.group``. A sample always hits itself.
        up: the axis of point clouds that stands upright, "y" or "z".
        max_bytes: of all faces together. Queries past it are left out. The page is a third larger than that.
        media: that make the faces.

    Raises ValueError where no two modalities have rows, or the shards are not those that were embedded.
    """
    table = {m: rows for m, rows in embeddings.items() if bool((rows.sample >= 0).any())}
    if len(table) < 2:
        raise ValueError(f"a gallery needs rows of two modalities; these embeddings have {', '.join(table) or 'none'}")
    right = hits(embeddings.group if hit is None else hit, embeddings.size)
    rounds: list[list[_Ask]] = [[] for _ in range(queries)]
    for of in table:
        for i, sample in enumerate(spread(table, of, embeddings.size, queries)):
            good = right(sample)
            others = [m for m in table if m != of]
            rounds[i] += [_Ask(sample, of, m, nearest(table[of], table[m], sample, good, k)) for m in others]
    shown = {s for asks in rounds for ask in asks for s in (ask.sample, *(found.sample for found in ask.found))}
    names = samples.members if isinstance(samples, Shards) else FOREIGN
    shelf = _Shelf(embeddings, _members(samples, embeddings, shown), names, media)
    out: list[Query] = []
    for i, asks in enumerate(rounds):
        if i and shelf.size + shelf.size // i > max_bytes:  # another round would be as large as those so far
            break
        for ask in asks:
            answers = [Answer(shelf.show(found.sample, ask.to), found.score, found.hit) for found in ask.found]
            out.append(Query(shelf.show(ask.sample, ask.of), ask.of, ask.to, answers))
    return Gallery(shelf.items, out, up)


def read_samples(sections: Iterable[Section], embeddings: Embeddings, shards: Shards) -> dict[str, Sample]:
    """Return the samples that the Gallery blocks of an evaluation show, by key. Raises ValueError for other shards."""
    keys = {key for section in sections for block in section.blocks if isinstance(block, Samples) for key in block.keys}
    found = _members(shards, embeddings, {s for s, key in enumerate(embeddings.ids) if key in keys})
    return {embeddings.ids[s]: sample for s, sample in found.items()}


class _Shelf:
    """The items so far. Each sample comes once, with the faces that the page shows."""

    def __init__(self, embeddings: Embeddings, found: Mapping[int, Sample], members: MemberNames, media: Media):
        self.ids, self.labels, self.found, self.members = embeddings.ids, embeddings.labels, found, members
        self.media = media
        self.items: list[Item] = []
        self.size = 0  # bytes of all faces
        self._place: dict[int, int] = {}

    def show(self, sample: int, modality: str) -> int:
        """Return the sample's index among the items, and add the sample and its face where they are missing."""
        read = self.found.get(sample, {})
        if sample not in self._place:
            self._place[sample] = len(self.items)
            label = self.labels[sample] if self.labels else None
            self.items.append(Item(self.ids[sample], {}, caption(read, label, self.members)))
        item = self.items[self._place[sample]]
        if modality not in item.faces and (found := face(modality, read, self.members, self.media)) is not None:
            item.faces[modality] = found
            self.size += size(found)
        return self._place[sample]


def _members(
    samples: Shards | Mapping[str, Sample] | Iterable[Sample], of: Embeddings, shown: set[int]
) -> dict[int, Sample]:
    """Return the members of the shown samples, by the sample's number in 0..B-1."""
    if isinstance(samples, Shards):
        found = {s: samples.read(int(of.position[s]))[0] for s in sorted(shown)}
        for s, sample in found.items():
            if sample["__key__"] != of.ids[s]:
                place = f"position {int(of.position[s])}"
                raise ValueError(
                    f"the embeddings are of other shards, or of another order: {place} is {of.ids[s]!r} there and "
                    f"{sample['__key__']!r} in {samples!r}"
                )
        return found
    if isinstance(samples, Mapping):
        known = cast("Mapping[str, Sample]", samples)
        return {s: known[of.ids[s]] for s in shown if of.ids[s] in known}
    place = {of.ids[s]: s for s in shown}
    return {place[sample["__key__"]]: sample for sample in samples if sample["__key__"] in place}
