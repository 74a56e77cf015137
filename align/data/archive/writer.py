"""Shards out: deterministic bytes, whole files only, an index beside each and one manifest for the folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from align.data.archive.build import read_index
from align.data.archive.index import index_paths
from align.data.archive.shard_file import ShardFile
from align.data.captions import caption_of
from align.data.labels import class_names, merge_classes
from align.data.meta import read_meta
from align.data.names import FOREIGN, check_key, check_member, modalities
from align.files import read_json, write_json


def check_name(split: str) -> None:
    """ValueError unless shards can be called ``SPLIT-000000.tar``."""
    if not re.fullmatch(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*", split):
        raise ValueError(f"split {split!r}: letters, digits, _ and - make the name of a split")


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
        check_name(split)
        if per_shard < 1:
            raise ValueError(f"per_shard={per_shard}: a shard holds at least one sample")
        self.folder, self.split, self.per_shard, self.licence = Path(folder), split, per_shard, licence
        self.classes = {a: [str(name) for name in names] for a, names in (classes or {}).items()}
        self.samples = 0
        self._keys: set[str] = set()
        self._seen: dict[str, dict[str, Any]] = {}  # attribute -> label values, each once
        self._coverage: Counter[str] = Counter()
        self._shards: dict[str, dict[str, Any]] = {}
        self._shard: ShardFile | None = None
        self._closed = False

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """One sample: member names like "image.jpg", "image.0.jpg", "text.txt", "text.neg.txt" or "json" -> bytes.

        Raises ValueError for a key that is taken, could leave a folder or holds a dot, and for a bad member name.
        """
        if self._closed:
            raise ValueError("this ShardWriter is closed")
        check_key(key)
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
                f"the json of sample {key!r} has {', '.join(bad)}: label, group, weight or grade cannot be read back"
            )
        if self._shard is None:
            self._shard = ShardFile(self.next_path)
        self._shard.write(key, members)
        self._keys.add(key)
        self.samples += 1
        has = modalities((name for name in members if ".neg." not in name), FOREIGN)
        self._coverage.update(has)
        self._shard.coverage.update(has)
        self._shard.collect(meta.label)
        if meta.group < 0:
            self._shard.note(filter(None, caption_of(members).split("\n")))
        if self._shard.samples >= self.per_shard:
            self.cut()

    @property
    def next_path(self) -> Path:
        """Where the shard that is being filled will stand."""
        return self.folder / f"{self.split}-{len(self._shards):06d}.tar"

    @property
    def filled(self) -> int:
        """The bytes in the shard that is being filled."""
        return 0 if self._shard is None else self._shard.size

    def cut(self) -> dict[str, Any] | None:
        """Finish the shard that is being filled, though it could hold more; None where it is empty.

        Returns what ``keep`` needs to go on from there in another process.
        """
        if self._shard is None:
            return None
        shard, self._shard = self._shard, None
        entry = shard.finish()
        labels = {attribute: list(values.values()) for attribute, values in shard.labels.items()}
        self._take(shard.path.name, entry, labels)
        return {**entry, "labels": labels}

    def keep(self, entry: Mapping[str, Any]) -> None:
        """Go on after a shard of an earlier run, which stands at ``next_path``; entry: what ``cut`` returned then."""
        entry = dict(entry)
        labels = entry.pop("labels")
        self._keys.update(read_index(self.next_path).keys)
        self.samples += entry["samples"]
        self._coverage.update(entry["modalities"])
        self._take(self.next_path.name, entry, labels)

    def close(self) -> None:
        """Finish the last shard and the manifest."""
        if self._closed:
            return
        self.cut()
        self._closed = True
        self._write_manifest()
        for path in self.folder.glob(f"{self.split}-*.tar"):  # of an earlier, longer run: a glob would mix them in
            if re.fullmatch(rf"{re.escape(self.split)}-\d{{6}}\.tar", path.name) and path.name not in self._shards:
                path.unlink()
                index_paths(path)[0].unlink(missing_ok=True)

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

    def _take(self, name: str, entry: dict[str, Any], labels: Mapping[str, Sequence[Any]]) -> None:
        self._shards[name] = entry
        for attribute, values in labels.items():
            if attribute not in self.classes:
                self._seen.setdefault(attribute, {}).update({f"{type(v).__name__}:{v}": v for v in values})

    def _write_manifest(self) -> None:
        path = self.folder / "manifest.json"
        old = read_json(path) if path.is_file() else {}
        splits: dict[str, Any] = dict(old.get("splits") or {})
        collected = class_names({a: list(values.values())} for a, values in sorted(self._seen.items()))
        repeated = sum(entry.get("repeated", 0) for entry in self._shards.values())
        splits[self.split] = {
            "samples": self.samples,
            "modalities": dict(sorted(self._coverage.items())),
            "classes": {**self.classes, **collected},
            **({"repeated": repeated} if repeated else {}),  # captions within a shard, of samples without a group
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
