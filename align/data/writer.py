"""Shards out: deterministic bytes, whole files only, an index beside each and one manifest for the folder."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, final

from align.data.index import Builder, places, stamp, store
from align.data.labels import class_names, merge_classes
from align.data.meta import read_meta
from align.data.names import FOREIGN, check_member, modalities, safe
from align.data.tar import BLOCK, RECORD, header, padding
from align.files import atomic_write, read_json, write_json


@final
class ShardWriter:
    """Writes ``folder/SPLIT-000000.tar``, … and ``folder/manifest.json``; used in a ``with`` block.

    The split is replaced as a whole: when the block ends well, what an earlier and longer run left of it is removed.
    When it ends in an error, the manifest stays as it was.

    Args:
        folder: made if it is not there.
        split: the first part of the shards' names.
        per_shard: samples in each shard.
        classes: attribute -> class names; attributes that are not given are collected from the labels.
        licence: of the content; goes into the manifest.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        *,
        per_shard: int = 1000,
        classes: Mapping[str, Sequence[str]] | None = None,
        licence: str | None = None,
    ):
        if not re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*", split):
            raise ValueError(f"split {split!r}: letters, digits, _ and - make the name of a split")
        if per_shard < 1:
            raise ValueError(f"per_shard={per_shard}: a shard holds at least one sample")
        self.folder, self.split, self.per_shard, self.licence = Path(folder), split, per_shard, licence
        self.classes = {a: [str(name) for name in names] for a, names in (classes or {}).items()}
        self.samples = 0
        self._keys: set[str] = set()
        self._seen: dict[str, dict[str, Any]] = {}  # attribute -> label values, each once
        self._coverage: Counter[str] = Counter()
        self._shards: dict[str, dict[str, Any]] = {}
        self._shard: _Shard | None = None
        self._closed = False

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """One sample: member names like "image.jpg", "image.0.jpg", "text.txt", "text.neg.txt" or "json" -> bytes.

        Raises ValueError for a key that is taken, could leave a folder or holds a dot, and for a bad member name.
        """
        if self._closed:
            raise ValueError("this ShardWriter is closed")
        if not safe(key) or "." in key.rpartition("/")[2] or key.startswith("./"):
            raise ValueError(f"key {key!r}: use a relative name without dots, '..', backslashes or control characters")
        if key in self._keys:
            raise ValueError(f"key {key!r} is there already; a key names one sample")
        if not members:
            raise ValueError(f"sample {key!r} has no members")
        for name, data in members.items():
            check_member(name)
            if not isinstance(data, bytes):
                raise TypeError(f"member {name!r} of {key!r} is a {type(data).__name__}; members are bytes")
        meta, bad = read_meta(dict(members), {})
        if bad:
            raise ValueError(
                f"the json of sample {key!r} has {', '.join(bad)}: label, group or weight cannot be read back"
            )
        if self._shard is None:
            self._shard = _Shard(self.folder / f"{self.split}-{len(self._shards):06d}.tar")
        self._shard.write(key, members)
        self._keys.add(key)
        self.samples += 1
        has = modalities((name for name in members if ".neg." not in name), FOREIGN)
        self._coverage.update(has)
        self._shard.coverage.update(has)
        self._collect(meta.label)
        if self._shard.samples >= self.per_shard:
            self._finish_shard()

    def close(self) -> None:
        """Finish the last shard and the manifest."""
        if self._closed:
            return
        if self._shard is not None:
            self._finish_shard()
        self._closed = True
        self._write_manifest()
        for path in self.folder.glob(f"{self.split}-*.tar"):  # of an earlier, longer run: a glob would mix them in
            if re.fullmatch(rf"{re.escape(self.split)}-\d{{6}}\.tar", path.name) and path.name not in self._shards:
                path.unlink()
                places(path)[0].unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        self._closed = True
        if self._shard is not None:
            self._shard.abandon(kind, error, trace)

    def _collect(self, label: Any) -> None:
        for attribute, value in (label if isinstance(label, dict) else {"label": label}).items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None and attribute not in self.classes:
                    self._seen.setdefault(attribute, {})[f"{type(one).__name__}:{one}"] = one

    def _finish_shard(self) -> None:
        assert self._shard is not None
        shard, self._shard = self._shard, None
        self._shards[shard.path.name] = shard.finish()

    def _write_manifest(self) -> None:
        path = self.folder / "manifest.json"
        old = read_json(path) if path.is_file() else {}
        splits: dict[str, Any] = dict(old.get("splits") or {})
        collected = class_names({a: list(values.values())} for a, values in sorted(self._seen.items()))
        splits[self.split] = {
            "samples": self.samples,
            "modalities": dict(sorted(self._coverage.items())),
            "classes": {**self.classes, **collected},
        }
        names = sorted(splits, key=lambda name: (name != "train", name))
        shards = {name: s for name, s in (old.get("shards") or {}).items() if s.get("split") != self.split}
        shards |= {name: {"split": self.split, **s} for name, s in self._shards.items()}
        coverage: Counter[str] = Counter()
        for name in names:
            coverage.update(splits[name]["modalities"])
        write_json(
            path,
            {
                "schema": 1,
                "samples": sum(splits[name]["samples"] for name in names),
                "modalities": dict(sorted(coverage.items())),
                "classes": merge_classes(splits[name]["classes"] for name in names),
                "licence": self.licence if self.licence is not None else old.get("licence"),
                "splits": {name: splits[name] for name in names},
                "shards": dict(sorted(shards.items())),
            },
        )


class _Shard:
    """One tar in the making, under a temporary name."""

    def __init__(self, path: Path):
        self.path = path
        self.samples = self.size = 0
        self.coverage: Counter[str] = Counter()
        self._hash = hashlib.sha256()
        self._index = Builder()
        self._context: AbstractContextManager[IO[bytes]] = atomic_write(path)
        self._file = self._context.__enter__()

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        for name, data in members.items():
            self._put(header(f"{key}.{name}", len(data)))
            self._index.add(key, name, self.size, len(data), zlib.crc32(data))
            self._put(data + padding(len(data)))
        self.samples += 1

    def finish(self) -> dict[str, Any]:
        self._put(bytes(2 * BLOCK))  # the end of the archive
        self._put(padding(self.size, RECORD))
        self._context.__exit__(None, None, None)
        store(self._index.build(), self.path, stamp(self.path))
        return {
            "samples": self.samples,
            "size": self.size,
            "sha256": self._hash.hexdigest(),
            "modalities": dict(sorted(self.coverage.items())),
        }

    def abandon(self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.__exit__(kind, error, trace)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)
