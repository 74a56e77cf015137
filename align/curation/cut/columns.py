"""Columns of a sample that a condition can use: the keys of its json, and properties of its members."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, final

from align.curation.cut.expression import Missing
from align.curation.look import describe
from align.data.meta import read_meta
from align.data.names import MemberNames
from align.data.rows import RowSource, find_rows
from align.media import MEDIA, Media, Medium
from align.media.choice import of_modality
from align.values import Sample

GENERAL = ("key", "label", "group", "weight", "json")


@lru_cache
def _of(media: Media) -> dict[str, tuple[Medium, ...]]:
    """Return column -> the media whose first row has it: pictures and videos both have a width."""
    named = [medium for medium in media if medium.modality]
    return {n: tuple(m for m in named if n in m.columns) for medium in named for n in medium.columns}


def modalities_of(name: str, media: Media = MEDIA) -> list[str]:
    """Return the modalities whose members a column is computed from."""
    for start in ("has_", "bytes_"):
        if name.startswith(start):
            return [name.removeprefix(start)]
    return [medium.modality for medium in _of(media).get(name, ())]


@final
class Columns:
    """Columns of one sample: ``columns("width")`` returns a value. ``found``: names of those that had one.

    A key of the json comes first (``json["width"]`` is always such a key). Next come has_MODALITY, bytes_MODALITY (of
    all its rows but hard negatives) and the columns of the media: width, height, seconds, fps, sample_rate, points,
    words (of the first row; of the media that have such a column, the first with a row) and text (all captions, one a
    line). The last are key, label, group, weight and json. Raises Missing for a column that the sample does not have.
    """

    def __init__(self, sample: Sample, members: MemberNames, media: Media = MEDIA):
        self.sample, self.members, self.media = sample, members, media
        self.meta = read_meta(sample, members)[0]
        self.stated = self.meta.json or {}
        self.found: set[str] = set()
        self._described: dict[str, dict[str, Any]] = {}

    def __call__(self, name: str) -> Any:
        value = self._get(name)
        self.found.add(name)
        return value

    def _get(self, name: str) -> Any:
        if name == "label" and self.meta.label is not None:
            return self.meta.label  # from a cls member too
        if name in self.stated:
            return self.stated[name]
        if name.startswith("has_"):
            return bool(self._rows(name.removeprefix("has_")))
        if name.startswith("bytes_"):
            rows = self._rows(name.removeprefix("bytes_"))
            return sum(len(row.data) for row in rows)
        if found := _of(self.media).get(name):
            return self._compute(name, next((medium for medium in found if self._rows(medium.modality)), found[0]))
        if name in ("key", "json"):
            return self.sample["__key__"] if name == "key" else self.stated
        raise Missing(name)

    def _compute(self, name: str, medium: Medium) -> Any:
        modality = medium.modality
        rows = self._rows(modality)
        if not rows:
            raise Missing(modality)
        if modality not in self._described:
            self._described[modality] = describe(f"{modality}.{rows[0].suffix}", rows[0].data, self.media)
        value = medium.column(name, self._described[modality], [row.data for row in rows])
        if value is None:
            raise Missing(f"readable {modality}")
        return value

    def _rows(self, modality: str) -> list[RowSource]:
        medium = of_modality(self.media, modality)
        suffixes = () if medium is None else medium.suffixes
        found = find_rows(self.sample, modality, suffixes, self.members, self.stated)
        return [row for row in found if isinstance(row, RowSource) and not row.negative]


def list_names(modalities: Iterable[str], keys: Iterable[str], media: Media = MEDIA) -> list[str]:
    """Return the sorted names that a condition can use, to suggest one for a misspelt name."""
    return sorted({*_of(media), *GENERAL, *keys, *(start + m for m in modalities for start in ("has_", "bytes_"))})
