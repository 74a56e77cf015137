"""What shards hold in numbers: counts, bytes, lengths and sizes, the balance of labels. Nothing is decoded."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from align.curation.look import describe
from align.data.bad import is_hole
from align.data.labels import attributes
from align.data.meta import read_meta
from align.data.names import CODE
from align.data.rows import RowSource, UnusableMember, find_rows
from align.data.shards import Shards


def measure(shards: Shards, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Numbers about a set, JSON-able: samples, shards, bytes, modalities and labels.

    ``modalities[m]`` has ``samples``, ``rows``, ``bytes`` (of all rows), ``unreadable`` (rows whose header cannot be
    read), ``kinds`` (rates, channels, picture modes, types of arrays: value -> rows) and ``quantities``: for each of
    bytes, rows (of a sample), width, height, seconds, points, characters and words that applies its ``min``,
    ``median``, ``max`` and ``sum``. ``labels[attribute]`` has ``samples`` and ``classes`` (value -> samples, the most
    frequent first). Every member is read once, of which only the header is looked at; a number is kept for each
    quantity of a row.
    """
    found: dict[str, _Rows] = {m: _Rows() for m in shards.modalities}
    labels: dict[str, Counter[str]] = {}
    labelled: Counter[str] = Counter()
    total = 0
    for position in range(len(shards)):
        sample, _ = shards.read(position)
        meta, _ = read_meta(sample, shards.members)
        total += sum(len(data) for name, data in sample.items() if not name.startswith("__"))
        for attribute, value in attributes(meta.label).items():
            labelled[attribute] += 1
            for one in value if isinstance(value, list) else [value]:
                labels.setdefault(attribute, Counter())[str(one)] += 1
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
        "ignored": shards.ignored,
        "bad": shards.report(),
    }


class _Rows:
    """The rows of a modality."""

    def __init__(self) -> None:
        self.samples = self.unreadable = 0
        self.quantities: dict[str, array[float]] = {}
        self.kinds: dict[str, Counter[str]] = {}

    def add(self, rows: Sequence[Any]) -> None:
        """One sample's; hard negatives are rows too, but give no coverage."""
        here = 0
        for row in rows:
            if isinstance(row, UnusableMember) and is_hole(row.reason):
                continue
            if not isinstance(row, RowSource) or row.suffix in CODE:
                self.unreadable += 1
                continue
            here += not row.negative
            self._put("bytes", len(row.data))
            about = describe(row.suffix, row.data)
            if "error" in about:
                self.unreadable += 1
            else:
                self._about(about)
        if here:
            self.samples += 1
            self._put("rows", here)

    def _about(self, about: Mapping[str, Any]) -> None:
        for name in ("width", "height", "seconds"):
            if name in about:
                self._put(name, about[name])
        for name, kind in {"mode": "mode", "rate": "Hz", "channels": "channels", "dtype": "dtype"}.items():
            if name in about:
                self._kind(kind, str(about[name]))
        if "shape" in about:
            shape = about["shape"]
            if len(shape) == 2 and shape[1] in (3, 6):
                self._put("points", shape[0])
                self._kind("colour", "with colour" if about.get("colour") else "without colour")
            else:
                self._kind("shape", "×".join(map(str, shape)))
        if "text" in about:
            text = " ".join(about["text"])
            self._put("characters", len(text))
            self._put("words", len(text.split()))

    def _put(self, name: str, value: float) -> None:
        self.quantities.setdefault(name, array("d")).append(value)

    def _kind(self, name: str, value: str) -> None:
        self.kinds.setdefault(name, Counter())[value] += 1

    def numbers(self) -> dict[str, Any]:
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
