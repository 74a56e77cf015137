"""Samples that an index can be made of, in portions that change together: a shard, or the files of one sample."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from align.data import Shards
from align.data.archive.members import ShardIndex
from align.data.reading import Reading
from align.files import json_text
from align.media import MEDIA
from align.media.choice import of_modality, with_named
from align.model import JointModel
from align.search.building.entry import shard_place
from align.search.building.files import Files, mark_of
from align.search.building.folder import Wanted, scan
from align.search.building.roots import Root, name_root
from align.search.leaves import plain


class Portion(NamedTuple):
    """A part of a source: its place, a mark that tells whether it has changed, and its samples."""

    place: str
    mark: Mapping[str, Any]
    n: int

    @property
    def note(self) -> str:
        """The place as an index notes it: bytes of a file's name that are no UTF-8 become ``\\udcXX``."""
        return str(plain(self.place))


@dataclass(frozen=True)
class Options:
    """Options that rows and items depend on.

    modalities: those that are embedded, None for all. labels: a folder's name is the label of its files. members: names
    in shards, see ``align.data.Shards``.
    """

    modalities: Sequence[str] | None = None
    labels: bool = False
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the options that are not the default, as plain data."""
        chosen = None if self.modalities is None else sorted(self.modalities)
        members = {m: list(names) for m, names in sorted(self.members.items())}
        stated = {"modalities": chosen, "labels": self.labels, "members": members}
        return {name: x for name, x in stated.items() if x}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Options:
        """Return the options of ``plain``."""
        return cls(plain.get("modalities"), bool(plain.get("labels")), plain.get("members", {}))


@dataclass(frozen=True)
class Stock:
    """A source of samples.

    root: see ``align.search.building.roots``. modalities: those that are embedded, each of which
    some sample has. left: (suffix, reason) -> files that are in no sample. advice: see ``Scan``.
    """

    root: Root
    portions: Sequence[Portion]
    reading: Reading
    modalities: Sequence[str]
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    advice: str = ""

    @property
    def name(self) -> str:
        """The folder, or the first pattern."""
        return name_root(self.root)


def of_shards(opened: Shards, model: JointModel, options: Options, root: Root) -> Stock:
    """Return the samples of opened shards, which are in their own order.

    Raises ValueError where the model embeds nothing of them.
    """
    how = options.plain()
    portions = []
    for place, index in zip(opened.urls, opened.indexes, strict=True):
        where = shard_place(str(place))
        portions.append(Portion(where, {"digest": digest(index), "how": how, **_stamp(where)}, len(index)))
    chosen = _choose(model, options, opened.modalities, "the shards have")
    return Stock(root, portions, opened, chosen)


def of_folder(folder: Path, model: JointModel, options: Options) -> Stock:
    """Return the samples of a folder of files.

    Raises FileNotFoundError where there is no folder, ValueError where the model embeds nothing of it.
    """
    wanted = list(model.modalities) if options.modalities is None else list(options.modalities)
    _check_known(model, wanted)
    preprocess = model.preprocess
    media = with_named(MEDIA, {m: preprocess[m].medium for m in model.modalities})
    asked = Wanted(
        {m: preprocess[m].suffixes for m in model.modalities if m in wanted},
        media,
        text="text" in (options.modalities or ()),
    )
    found = scan(folder, asked)
    if not found.samples:
        raise ValueError(_explain_empty(folder, found.left, found.advice, asked))
    how = options.plain()
    portions = [Portion(one.place, {"files": mark_of(one, {}), "how": how}, 1) for one in found.samples]
    have = {file.member.partition(".")[0] for one in found.samples for file in one.files}
    reading = Files(folder, found.samples, media, labels=options.labels)
    chosen = [m for m in model.modalities if m in wanted and m in have]
    return Stock({"folder": str(folder)}, portions, reading, chosen, found.left, found.advice)


def digest(index: ShardIndex) -> str:
    """Return a checksum of a shard's samples: their keys, and the name, size and CRC-32 of each member."""
    hashed = hashlib.blake2b(digest_size=16)
    hashed.update(json_text([index.keys, index.names]).encode("utf-8", "surrogateescape"))
    for column in (index.first, index.name, index.size, index.crc32):
        hashed.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    return hashed.hexdigest()


def tell(portion: Portion) -> str:
    """Return a short text that differs where a portion is another one or has changed."""
    plain = {name: x for name, x in portion.mark.items() if name not in ("size", "mtime_ns")}
    text = json.dumps([portion.place, plain], sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _stamp(place: str) -> dict[str, int]:
    """Return size and time of change of a local shard."""
    try:
        state = os.stat(place)
    except OSError:
        return {}
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}


def _choose(model: JointModel, options: Options, have: Mapping[str, int], words: str) -> list[str]:
    wanted = list(model.modalities) if options.modalities is None else list(options.modalities)
    _check_known(model, wanted)
    chosen = [m for m in model.modalities if m in wanted and have.get(m)]
    if not chosen:
        raise ValueError(f"the model embeds {', '.join(wanted)}; {words} {', '.join(sorted(have)) or 'none'}")
    return chosen


def _check_known(model: JointModel, wanted: Sequence[str]) -> None:
    for m in wanted:
        if m not in model.modalities:
            raise ValueError(f"the model has no modality {m!r}; it has {', '.join(model.modalities)}")


def _explain_empty(folder: Path, left: Counter[tuple[str, str]], advice: str, asked: Wanted) -> str:
    suffixes = {s for known in asked.suffixes.values() for s in known}
    for m, known in asked.suffixes.items():
        medium = of_modality(MEDIA, m)
        suffixes |= set(medium.files) if medium is not None and medium.suffixes[0] in known else set()
    there = ", ".join(f"{n} {suffix or 'other'} ({reason})" for (suffix, reason), n in sorted(left.items()))
    return (
        f"{folder} has no file that the model embeds: it reads {', '.join(sorted(suffixes))}; "
        f"there are {there or 'no files'}" + (f"; {advice}" if advice else "")
    )
