"""Shards in numbers: counts, bytes, lengths and sizes, the balance of labels. Nothing is decoded."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from align.curation.look import describe, describer
from align.data.bad import is_hole
from align.data.grades import in_words
from align.data.labels import attributes
from align.data.meta import read_meta
from align.data.names import CODE
from align.data.rows import RowSource, UnusableMember, find_rows
from align.data.shards import Shards
from align.media import MEDIA, Media


def measure(shards: Shards, progress: Callable[[int, int], None] | None = None, media: Media = MEDIA) -> dict[str, Any]:
    """Measure a set, JSON-able: samples, shards, bytes, modalities and labels.

    ``modalities[m]`` has ``samples``, ``rows``, ``bytes`` (of all rows), ``unreadable`` (rows whose header cannot be
    read), ``kinds`` (rates, channels, picture modes, types of arrays: value -> rows) and ``quantities``: ``min``,
    ``median``, ``max`` and ``sum`` of bytes, of the rows of a sample, and of the medium's own (width, height, seconds,
    points, characters, words). ``labels[attribute]`` has ``samples`` and ``classes`` (value -> samples, the most
    frequent first). ``grades[pair]`` has grade -> samples, where any sample states one. Every member is read once, and
    only its header is looked at. A number is kept for each quantity of a row.
    """
    found: dict[str, _Rows] = {m: _Rows(m, media) for m in shards.modalities}
    labels: dict[str, Counter[str]] = {}
    labelled: Counter[str] = Counter()
    grades: dict[str, Counter[str]] = {}
    total = 0
    for position in range(len(shards)):
        sample, _ = shards.read(position)
        meta, _ = read_meta(sample, shards.members)
        total += sum(len(data) for name, data in sample.items() if not name.startswith("__"))
        for attribute, value in attributes(meta.label).items():
            labelled[attribute] += 1
            for one in value if isinstance(value, list) else [value]:
                labels.setdefault(attribute, Counter())[str(one)] += 1
        for pair, word in in_words(meta.grade).items():
            grades.setdefault(pair, Counter())[word] += 1
        for modality, rows in found.items():
            rows.add(find_rows(sample, modality, (), shards.members, meta.json))
        if progress is not None and (position % 256 == 255 or position + 1 == len(shards)):
            progress(position + 1, len(shards))
    return {
        "shards": len(shards.urls),
        "samples": len(shards),
        "bytes": total,
        "licence": (shards.manifest or {}).get("licence"),
        "modalities": {m: rows.numbers() for m, rows in found.items()},
        "labels": {
            a: {"samples": labelled[a], "classes": dict(counts.most_common())} for a, counts in sorted(labels.items())
        },
        **({"grades": {pair: dict(counts.most_common()) for pair, counts in sorted(grades.items())}} if grades else {}),
        "ignored": shards.ignored,
        "bad": shards.report(),
    }


class _Rows:
    """The rows of a modality."""

    def __init__(self, modality: str, media: Media) -> None:
        self.modality, self.media = modality, media
        self.samples = self.unreadable = 0
        self.quantities: dict[str, array[float]] = {}
        self.kinds: dict[str, Counter[str]] = {}

    def add(self, rows: Sequence[Any]) -> None:
        """Add the rows of one sample. Hard negatives are rows too, but give no coverage."""
        here = 0
        for row in rows:
            if isinstance(row, UnusableMember) and is_hole(row.reason):
                continue
            if not isinstance(row, RowSource) or row.suffix in CODE:
                self.unreadable += 1
                continue
            here += not row.negative
            self._put("bytes", len(row.data))
            about = describe(f"{self.modality}.{row.suffix}", row.data, self.media)
            medium = describer(self.media, row.suffix, self.modality)
            if "error" in about:
                self.unreadable += 1
            elif about and medium is not None:
                quantities, kinds = medium.measure(about)
                for name, value in quantities.items():
                    self._put(name, value)
                for name, kind in kinds.items():
                    self.kinds.setdefault(name, Counter())[kind] += 1
        if here:
            self.samples += 1
            self._put("rows", here)

    def _put(self, name: str, value: float) -> None:
        self.quantities.setdefault(name, array("d")).append(value)

    def numbers(self) -> dict[str, Any]:
        """Return the modality's part of ``measure``."""
        quantities = {name: np.array(values) for name, values in self.quantities.items()}
        return {
            "samples": self.samples,
            "rows": len(quantities.get("bytes", ())),
            "bytes": int(quantities["bytes"].sum()) if "bytes" in quantities else 0,
            "unreadable": self.unreadable,
            "kinds": {name: dict(counts.most_common(20)) for name, counts in sorted(self.kinds.items())},
            "quantities": {
                name: {
                    "min": _round(v.min()),
                    "median": _round(np.median(v)),
                    "max": _round(v.max()),
                    "sum": _round(v.sum()),
                }
                for name, v in quantities.items()
            },
        }


def _round(value: Any) -> float | int:
    return int(value) if float(value).is_integer() else round(float(value), 4)
