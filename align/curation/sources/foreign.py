"""An existing WebDataset as a source: its samples with their members renamed to those of align."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from align.curation.jobs.job import Fault, Made
from align.data.archive.index import ShardIndex
from align.data.archive.tar import room
from align.data.bad import BLANK
from align.data.captions import captions, is_blank
from align.data.meta import read_meta
from align.data.names import TEXT, MemberNames, check_member, find_mapped, has_lines, modalities, row_name
from align.data.rows import explain
from align.data.shards import Shards
from align.values import BadSample, Sample


class Stored(NamedTuple):
    """A sample of opened shards to write again. mark: text that differs for other bytes. size: bytes in a tar."""

    key: str
    position: int
    mark: str
    size: int

    def read(self, shards: Shards) -> Made:
        """Read its members under our names, with (reason, member) of those that cannot be read or written."""
        sample, bad = shards.read(self.position)
        found, more = rename_members(sample, shards.members)
        return found, [(b.reason, b.member) for b in bad] + more


def plan_samples(shards: Shards) -> Iterator[Stored]:
    """Yield the samples of shards that have any modality, in their order. Only the indexes are read."""
    for position, index, i in walk(shards):
        if modalities(index.members(i), shards.members):
            sizes = index.size[index.first[i] : index.first[i + 1]].tolist()
            yield Stored(index.keys[i], position, mark(index, i), sum(map(room, sizes)))


def walk(shards: Shards) -> Iterator[tuple[int, ShardIndex, int]]:
    """Yield (position, index of its shard, number in that shard) of every sample, in the order of the shards."""
    numbers = ((index, i) for index in shards.indexes for i in range(len(index)))
    for position, (index, i) in enumerate(numbers):
        yield position, index, i


def mark(index: ShardIndex, i: int) -> str:
    """Return text that differs for other bytes: a sample's key, and name, checksum and size of each member."""
    begin, end = int(index.first[i]), int(index.first[i + 1])
    sums, sizes = index.crc32[begin:end].tolist(), index.size[begin:end].tolist()
    return "\n".join([index.keys[i], *map(str, zip(index.members(i), sums, sizes, strict=True))])


def splits(folder: Path) -> dict[str | None, list[Path]]:
    """Return split -> its shards, for a folder of shards. None stands for shards that name no split."""
    found: dict[str | None, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        found.setdefault(split_name(path), []).append(path)
    return found


def split_name(path: Path) -> str | None:
    """Return ``train`` for ``train-000003.tar``, or None for a name without a split."""
    named = re.fullmatch(r"([A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*)-\d+\.tar", path.name)
    return named[1] if named else None


def rename_members(sample: Sample, mapping: MemberNames) -> tuple[dict[str, bytes], list[Fault]]:
    """Return a sample's members under our names, and (reason, member) of those that are left out.

    A member that names its modality keeps its name. By ``mapping``, ``jpg`` becomes ``image.jpg``, a plain ``txt`` one
    caption on one line (``txt:lines``: a caption a line), and ``cls`` the label in the json. The json's other keys
    stay.

    Left out are a name that no shard may hold (``left cam.png``), a blank caption and an invalid json. The json loses
    a label or weight that cannot be read back.
    """
    out = {name: data for name, data in sample.items() if not name.startswith("__") and row_name(name) is not None}
    meta, wrong = read_meta(sample, mapping)
    bad: list[Fault] = [(reason, "json") for reason in wrong]
    bad += [(refusal(name), name) for name in out if not may_write(name)]
    out = {name: data for name, data in out.items() if may_write(name)}
    taken = {row.modality for row in map(row_name, out) if row is not None}
    for modality in mapping:
        name = None if modality == "label" or modality in taken else find_mapped(modality, mapping, sample)
        if name is None:
            continue
        member, _, key = name.partition(":")
        suffix = member.rpartition(".")[2]
        if key and not has_lines(name):
            value = (meta.json or {}).get(key)
            try:
                texts = captions(value)
            except BadSample as error:
                bad.append((explain(error, modality), name))
                continue
            if not _text(modality, texts, out) and value is not None:
                bad.append((f"{modality}/{BLANK}", name))
        elif key or suffix == TEXT:
            try:
                text = sample[member].decode("utf-8-sig")
            except UnicodeDecodeError:
                bad.append((f"{modality}/not-utf8", member))
                continue
            if is_blank(text) or not _text(modality, text.splitlines() if key else [text], out):
                bad.append((f"{modality}/{BLANK}", member))
        else:
            out[f"{modality}.{suffix}"] = sample[member]
    if (about := _about(sample, meta.label, meta.json, wrong)) is not None:
        out["json"] = about
    return out, bad


def may_write(name: str) -> bool:
    """Return True for a name that a member of a shard may have."""
    try:
        check_member(name)
    except ValueError:
        return False
    return True


def refusal(name: str) -> str:
    """Return the reason for a member whose name no shard may hold."""
    return f"member/{name.rpartition('.')[2]}"


def _text(modality: str, texts: Iterable[str], out: dict[str, bytes]) -> bool:
    lines = [line for line in (" ".join(text.split()) for text in texts) if line]
    if lines:
        out[f"{modality}.{TEXT}"] = "\n".join(lines).encode("utf-8", "replace")
    return bool(lines)


def _about(sample: Sample, label: Any, stated: dict[str, Any] | None, wrong: list[str]) -> bytes | None:
    """Return the json to write: unchanged, unless the label is another member or a key cannot be read back."""
    content = dict(stated or {})
    content = {k: v for k, v in content.items() if f"json/{k}" not in wrong}
    if label is not None:
        content["label"] = label
    if content == (stated or {}) and "json" in sample and "json/invalid" not in wrong:
        return sample["json"]
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace") if content else None
