"""Columns of a sample that a condition can use: the keys of its json, and properties of its members."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

from align.curation.cut.expression import Missing
from align.curation.look import describe
from align.data.meta import read_meta
from align.data.names import MemberNames
from align.data.rows import RowSource, find_rows
from align.preprocess import Audio, Image
from align.values import Sample

OF = {
    "width": "image",
    "height": "image",
    "seconds": "audio",
    "sample_rate": "audio",
    "points": "points",
    "words": "text",
    "text": "text",
}
"""Column -> the modality whose first row says it."""

GENERAL = ("key", "label", "group", "weight", "json")
SUFFIXES = {"image": Image.suffixes, "audio": Audio.suffixes, "points": ("npy",), "text": ("txt",)}


def modality_of(name: str) -> str | None:
    """Return the modality whose members a column is computed from, or None."""
    for start in ("has_", "bytes_"):
        if name.startswith(start):
            return name.removeprefix(start)
    return OF.get(name)


@final
class Columns:
    """Columns of one sample: ``columns("width")`` returns a value. ``found``: names of those that had one.

    A key of the json comes first (``json["width"]`` is always such a key). Next come has_MODALITY, bytes_MODALITY (of
    all its rows but hard negatives), width, height, seconds, sample_rate, points, words (of the first row) and text
    (all captions, one a line). The last are key, label, group, weight and json. Raises Missing for a column that the
    sample does not have.
    """

    def __init__(self, sample: Sample, members: MemberNames):
        self.sample, self.members = sample, members
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
        if name in OF:
            return self._compute(name)
        if name in ("key", "json"):
            return self.sample["__key__"] if name == "key" else self.stated
        raise Missing(name)

    def _compute(self, name: str) -> Any:
        modality = OF[name]
        rows = self._rows(modality)
        if not rows:
            raise Missing(modality)
        if modality == "text":
            texts = [row.data.decode("utf-8", "replace") for row in rows]
            return len(texts[0].split()) if name == "words" else "\n".join(texts)
        if modality not in self._described:
            self._described[modality] = describe(rows[0].member, rows[0].data)
        described = self._described[modality]
        value = {"sample_rate": described.get("rate"), "points": (described.get("shape") or [None])[0]}.get(
            name, described.get(name)
        )
        if value is None:
            raise Missing(f"readable {modality}")
        return value

    def _rows(self, modality: str) -> list[RowSource]:
        found = find_rows(self.sample, modality, SUFFIXES.get(modality, ()), self.members, self.stated)
        return [row for row in found if isinstance(row, RowSource) and not row.negative]


def list_names(modalities: Iterable[str], keys: Iterable[str]) -> list[str]:
    """Return the sorted names that a condition can use, to suggest one for a misspelt name."""
    return sorted({*OF, *GENERAL, *keys, *(start + m for m in modalities for start in ("has_", "bytes_"))})
