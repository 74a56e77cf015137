"""The format of a feature cache: the names of its files and the content of its ``cache.json``. It knows no model.

CACHE/cache.json       {"schema", "shards": [{"name", "sha256", "samples", "keys"}], "sets": {SET: {"model", "sha256",
                       "columns": {MODALITY: {"weights", "preprocess", "kind", "unit", "scale", "windows", "dtype",
                       "width", "tokens"}}}}}
CACHE/SET/SHARD.tar    the part of one source shard, see ``align.data.columns.part``
CACHE/SET/SHARD.json   its record: checksums, and the places of its blocks
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from align.data.archive.keys import hash_keys as hash_keys
from align.files import read_json

schema = 1
FILE = "cache.json"
BLOCK = 1024
"""Positions of a block at most."""


class ColumnName(NamedTuple):
    """``CACHE/SET:MODALITY``, as a config names a column."""

    cache: Path
    set: str
    modality: str

    def __str__(self) -> str:
        return f"{self.cache / self.set}:{self.modality}"


class SourceShard(NamedTuple):
    """A source shard of a cache. sha256: of its file. keys: of its samples' keys, see ``hash_keys``."""

    name: str
    sha256: str
    samples: int
    keys: str


class ColumnInfo(NamedTuple):
    """Facts of a column, as ``cache.json`` has them.

    weights: hash of the tower's weights. preprocess: hash of its preprocess. kind: "features" or "embedding". unit:
    True for rows of length 1. scale: of an embedding's trained term. windows: windows of a row, which are averaged.
    dtype: "float16" or "float32". width: of a row. tokens: True where the column has tokens beside its rows.
    """

    weights: str
    preprocess: str
    kind: str
    unit: bool
    scale: float | None
    windows: int | None
    dtype: str
    width: int
    tokens: bool


class SetInfo(NamedTuple):
    """One set of a cache.

    model: MODEL as ``align.load`` takes it. sha256: its fingerprint. parts: ``image.encoder`` -> the origin of its
    published weights, as in model.json.
    """

    model: str
    sha256: str
    columns: dict[str, ColumnInfo]
    parts: dict[str, dict[str, Any]]


class CacheInfo(NamedTuple):
    """The content of ``cache.json``."""

    folder: Path
    shards: list[SourceShard]
    sets: dict[str, SetInfo]


def parse_column(text: str) -> ColumnName:
    """Return the parts of ``CACHE/SET:MODALITY``. Raises ValueError for another form, such as one without a set."""
    path, colon, modality = str(text).rpartition(":")
    folder = Path(path)
    if not colon or not modality or "/" not in path or folder.name in ("", "..") or folder.parent == folder:
        raise ValueError(f"a column is CACHE/SET:MODALITY, as in caches/photos/minilm:text; got {text!r}")
    return ColumnName(folder.parent, folder.name, modality)


def part_path(cache: Path, set: str, shard: str) -> Path:
    """Return the path of a part. shard: the source shard's name, ``train-000000.tar``."""
    return cache / set / shard


def record_path(part: Path) -> Path:
    """Return the path of a part's record."""
    return part.with_suffix(".json")


def work_folder(cache: Path, set: str) -> Path:
    """Return the folder of the plan and the claims of a set that is being written."""
    return cache / f".{set}.work"


def read_cache(folder: Path) -> CacheInfo:
    """Return the content of a cache's ``cache.json``.

    Raises FileNotFoundError where there is none, ValueError for another content or a newer schema.
    """
    path = folder / FILE
    if not path.is_file():
        begun = sorted(left.name[1:-5] for left in folder.glob(".*.work"))
        if begun:
            raise FileNotFoundError(
                f"the cache {folder} has no {FILE} yet: its set {begun[0]!r} is being written, or was interrupted; the "
                "same `align embed` command goes on with it"
            )
        raise FileNotFoundError(f"no cache {folder} (it has no {FILE}); `align embed MODEL SHARDS --out {folder}`")
    content = read_json(path)
    if isinstance(content, dict) and content.get("schema", 0) > schema:
        raise ValueError(f"{path} has schema {content['schema']}; this align reads up to {schema}: upgrade align")
    try:
        shards = [SourceShard(*(shard[name] for name in SourceShard._fields)) for shard in content["shards"]]
        sets = {name: _read_set(about) for name, about in content["sets"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no list of shards and sets ({type(error).__name__}: {error})") from None
    if twice := [name for name, n in Counter(shard.name for shard in shards).items() if n > 1]:
        raise ValueError(f"{path} is damaged: it lists the shard {twice[0]} twice")
    for name, about in sets.items():
        for m, column in about.columns.items():
            if odd := _find_odd(column):
                raise ValueError(f"{path} is damaged: the column {name}:{m} has {odd}")
    return CacheInfo(folder, shards, sets)


def _read_set(about: dict[str, Any]) -> SetInfo:
    columns = {m: ColumnInfo(*(facts[name] for name in ColumnInfo._fields)) for m, facts in about["columns"].items()}
    return SetInfo(str(about["model"]), str(about["sha256"]), columns, dict(about.get("parts", {})))


def _find_odd(column: ColumnInfo) -> str:
    """Return the first fact that no writer writes, "" where there is none."""
    good = {
        "weights": _is_sha256(column.weights),
        "preprocess": _is_sha256(column.preprocess),
        "kind": column.kind in ("features", "embedding"),
        "dtype": column.dtype in ("float16", "float32"),
        "width": type(column.width) is int and column.width > 0,
        "unit": isinstance(column.unit, bool),
        "tokens": isinstance(column.tokens, bool),
    }
    return next((f"{fact} {getattr(column, fact)!r}" for fact, fits in good.items() if not fits), "")


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def find_column(info: CacheInfo, name: ColumnName) -> ColumnInfo:
    """Return a column of a cache. Raises ValueError, with the nearest name, for a set or a modality without one."""
    if name.set not in info.sets:
        remedy = _near(name.set, info.sets)
        if work_folder(info.folder, name.set).is_dir():
            remedy = "it is being written, or was interrupted: the same `align embed` command goes on with it"
        raise ValueError(f"{info.folder} has no set {name.set!r}; {remedy}")
    columns = info.sets[name.set].columns
    if name.modality not in columns:
        raise ValueError(f"{info.folder / name.set} has no column {name.modality!r}; {_near(name.modality, columns)}")
    return columns[name.modality]


def _near(word: str, known: Iterable[str]) -> str:
    close = get_close_matches(word, [*known], 1, 0.5)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
