"""An existing WebDataset as a source: its members under our names, with what they mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from align.curation.jobs.job import Fault, Made
from align.data.archive.index import Index
from align.data.archive.tar import room
from align.data.bad import BLANK
from align.data.captions import captions, is_blank
from align.data.meta import read_meta
from align.data.names import TEXT, Mapped, check_member, mapped, modalities, row_name
from align.data.rows import explain
from align.data.shards import Shards
from align.values import BadSample, Sample


class Stored(NamedTuple):
    """A sample of opened shards to write again: its key, its position, and what tells its bytes from others."""

    key: str
    position: int
    mark: str
    size: int

    def read(self, shards: Shards) -> Made:
        """Its members under our names, and (reason, member) of those that cannot be had."""
        sample, bad = shards.read(self.position)
        found, more = renamed(sample, shards.members)
        return found, [(b.reason, b.member) for b in bad] + more


def stored(shards: Shards) -> Iterator[Stored]:
    """The samples of shards that have any modality, as they stand; nothing is read but their indexes."""
    for position, index, i in walk(shards):
        if modalities(index.members(i), shards.members):
            sizes = index.size[index.first[i] : index.first[i + 1]].tolist()
            yield Stored(index.keys[i], position, mark(index, i), sum(map(room, sizes)))


def walk(shards: Shards) -> Iterator[tuple[int, Index, int]]:
    """(position, index of its shard, number in that) of every sample, as they stand."""
    numbers = ((index, i) for index in shards.indexes for i in range(len(index)))
    for position, (index, i) in enumerate(numbers):
        yield position, index, i


def mark(index: Index, i: int) -> str:
    """What tells the bytes of a sample from others: its key, and the name, checksum and size of each member."""
    begin, end = int(index.first[i]), int(index.first[i + 1])
    sums, sizes = index.crc32[begin:end].tolist(), index.size[begin:end].tolist()
    return "\n".join([index.keys[i], *map(str, zip(index.members(i), sums, sizes, strict=True))])


def splits(folder: Path) -> dict[str | None, list[Path]]:
    """Split -> its shards, for a folder of shards; None is the name of shards that name no split."""
    found: dict[str | None, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        found.setdefault(split_name(path), []).append(path)
    return found


def split_name(path: Path) -> str | None:
    """``train`` of ``train-000003.tar``; None for a name that says no split."""
    named = re.fullmatch(r"([A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*)-\d+\.tar", path.name)
    return named[1] if named else None


def renamed(sample: Sample, mapping: Mapped) -> tuple[dict[str, bytes], list[Fault]]:
    """A sample's members under our names: what names a modality stays, ``jpg`` becomes ``image.jpg`` as ``mapping``
    says, a plain ``txt`` one caption on one line, ``cls`` the json's label. The json's other keys stay.

    Also (reason, member) of what cannot be taken: a name that no shard may hold (``left cam.png``), a blank caption, a
    json that is none is left out, a label or weight that cannot be read back leaves the json.
    """
    out = {name: data for name, data in sample.items() if not name.startswith("__") and row_name(name) is not None}
    meta, wrong = read_meta(sample, mapping)
    bad: list[Fault] = [(reason, "json") for reason in wrong]
    bad += [(refused(name), name) for name in out if not may_write(name)]
    out = {name: data for name, data in out.items() if may_write(name)}
    own = {row.modality for row in map(row_name, out) if row is not None}
    for modality in mapping:
        name = None if modality == "label" or modality in own else mapped(modality, mapping, sample)
        if name is None:
            continue
        member, _, key = name.partition(":")
        suffix = member.rpartition(".")[2]
        if key:
            value = (meta.json or {}).get(key)
            try:
                texts = captions(value)
            except BadSample as error:
                bad.append((explain(error, modality), name))
                continue
            if not _text(modality, texts, out) and value is not None:
                bad.append((f"{modality}/{BLANK}", name))
        elif suffix == TEXT:
            try:
                text = sample[member].decode("utf-8-sig")
            except UnicodeDecodeError:
                bad.append((f"{modality}/not-utf8", member))
                continue
            if is_blank(text) or not _text(modality, [text], out):
                bad.append((f"{modality}/{BLANK}", member))
        else:
            out[f"{modality}.{suffix}"] = sample[member]
    if (about := _about(sample, meta.label, meta.json, wrong)) is not None:
        out["json"] = about
    return out, bad


def may_write(name: str) -> bool:
    """Whether a shard may hold a member of this name."""
    try:
        check_member(name)
    except ValueError:
        return False
    return True


def refused(name: str) -> str:
    """The reason of a member that no shard may hold."""
    return f"member/{name.rpartition('.')[2]}"


def _text(modality: str, texts: Iterable[str], out: dict[str, bytes]) -> bool:
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    if lines:
        out[f"{modality}.{TEXT}"] = "\n".join(lines).encode("utf-8", "replace")
    return bool(lines)


def _about(sample: Sample, label: Any, stated: dict[str, Any] | None, wrong: list[str]) -> bytes | None:
    """The json to write: the bytes as they are, unless the label comes from elsewhere or a key cannot be read back."""
    content = dict(stated or {})
    content = {k: v for k, v in content.items() if f"json/{k}" not in wrong}
    if label is not None:
        content["label"] = label
    if content == (stated or {}) and "json" in sample and "json/invalid" not in wrong:
        return sample["json"]
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") if content else None
