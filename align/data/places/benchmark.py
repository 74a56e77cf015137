"""Folders in CLIP_benchmark's layout, as its ``clip_benchmark_export_wds`` writes them.

DIR/SPLIT/0.tar, 1.tar, … with DIR/SPLIT/nshards.txt, and beside the splits DIR/classnames.txt,
DIR/zeroshot_classification_templates.txt (with ``{c}`` for the name) and DIR/dataset_type.txt (``retrieval`` or
``multilabel``, no file for one label a sample). A sample is an image with a ``cls`` (the place of its class in
classnames.txt), an ``npy`` (zeros and ones by class) or a ``txt`` with a caption a line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from align.data.places.servers import Remote, fetch_small

TYPE, CLASSES, TEMPLATES = "dataset_type.txt", "classnames.txt", "zeroshot_classification_templates.txt"
COUNT = "nshards.txt"
TYPES = ("classification", "multilabel", "retrieval")
MEMBERS = {"multilabel": {"label": ["npy"]}, "retrieval": {"text": ["txt:lines"]}}
"""Type -> member names that differ from the usual ones."""


class Benchmark(NamedTuple):
    """Facts that stand beside the shards.

    type: of TYPES. classes: names by place, of which some may be equal. templates: of prompts, with {} for the name.
    """

    type: str
    classes: list[str]
    templates: list[str]

    @property
    def members(self) -> dict[str, list[str]]:
        """Modality -> names of members that differ from the usual ones."""
        return MEMBERS.get(self.type, {})


def read_benchmark(places: Sequence[object]) -> Benchmark | None:
    """Return the facts beside shards DIR/SPLIT/N.tar, None where they are of no such folder, or of several.

    A server is asked only where all shards have numbers for names. Raises ValueError for an unknown type, for
    a template without ``{c}``, for an empty line among the class names, and for a text that is not UTF-8.
    """
    folders = {place.parent: place for place in places if isinstance(place, Path | Remote)}
    roots = {folder.parent for folder in folders}
    if len(roots) != 1 or not all(_is_numbered(place) for place in places):
        return None
    root, split = roots.pop(), next(iter(folders))
    stated = _read(root, TYPE)
    if stated is None and _read(split, COUNT) is None:
        return None
    kind = (stated or TYPES[0]).strip().lower()
    if kind not in TYPES:
        raise ValueError(f"{root}/{TYPE} says {kind!r}; it is retrieval or multilabel, or there is none")
    if kind == "retrieval":
        return Benchmark(kind, [], [])
    names = _lines(root, CLASSES)
    if "" in names:
        raise ValueError(f"{root}/{CLASSES}: line {names.index('') + 1} is empty; a label is the place of a line")
    return Benchmark(kind, names, [_template(line, root) for line in _lines(root, TEMPLATES) if line])


def list_splits(folder: Path) -> list[str]:
    """Return the names of the splits of a folder in this layout, in sorted order. It has none where it is no such."""
    return sorted(path.parent.name for path in folder.glob(f"*/{COUNT}"))


def list_shards(split: Path) -> list[Path] | None:
    """Return DIR/SPLIT/0.tar, … as its nshards.txt counts them, None for a folder without one.

    Raises ValueError where it is no number, FileNotFoundError where a shard is missing.
    """
    if not (split / COUNT).is_file():
        return None
    text = (split / COUNT).read_text(encoding="utf-8", errors="replace").strip()
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError(f"{split / COUNT} holds {text[:40]!r}; it holds the number of shards")
    paths = [split / f"{i}.tar" for i in range(int(text))]
    if gone := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(f"{gone[0]} is missing: {COUNT} beside it counts {len(paths)} shards")
    return paths


def _is_numbered(place: object) -> bool:
    name = str(getattr(place, "name", ""))
    return name.endswith(".tar") and name.removesuffix(".tar").isdecimal()


def _read(folder: Path | Remote, name: str) -> str | None:
    if isinstance(folder, Remote):
        data = fetch_small(folder / name, most=1 << 24)
    else:
        data = (folder / name).read_bytes() if os.path.isfile(folder / name) else None
    try:
        return None if data is None else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{folder}/{name} is not UTF-8: {error.reason} at byte {error.start}") from None


def _lines(folder: Path | Remote, name: str) -> list[str]:
    return [line.strip() for line in (_read(folder, name) or "").rstrip().splitlines()]


def _template(line: str, folder: Path | Remote) -> str:
    if line.count("{c}") != 1:
        raise ValueError(f"{folder}/{TEMPLATES}: a template has one {{c}} for the class name, not {line[:80]!r}")
    return line.replace("{c}", "{}")
