"""Indexing of a shard without an index, or with one that cannot be trusted, by a strict scan of the whole shard."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from align.data.archive.index import find_index, index_paths, parse_index, stamp, write_index
from align.data.archive.members import Builder, ShardIndex
from align.data.archive.tar import Entry, Gap, scan
from align.data.names import is_safe, split_name
from align.files import read_json

GAPS = ("header", "truncated", "no-end")
log = logging.getLogger("align.data")


def read_index(shard: Path) -> ShardIndex:
    """Return the shard's index: the stored one where it can be trusted, else one made by a strict scan and stored.

    Raises FileNotFoundError, and ValueError for a file that is no tar.
    """
    if not shard.is_file():
        raise FileNotFoundError(f"no shard {shard}")
    state = stamp(shard)
    found = find_index(shard)
    if found is not None:
        return found
    index = build_index(shard)
    warn(shard, index)
    write_index(index, shard, state)
    return index


def warn(shard: object, index: ShardIndex) -> None:
    """Log one line where the scan had to leave something out."""
    if index.notes:
        log.warning("%s: %s", shard, ", ".join(f"{n} {reason}" for reason, n in sorted(index.notes.items())))


def build_index(shard: Path) -> ShardIndex:
    """Read the whole shard strictly and return its index. A sample that touches a gap is left out and counted.

    The counts are in ``notes``. Samples without a trace count too ("sample/lost"), where an index from before the
    damage still names them.
    """
    builder = Builder()
    before = _read_earlier(shard)
    last, after_gap = None, False
    damaged: set[str] = set()
    with open(shard, "rb") as file:
        try:
            for found in scan(file):
                if isinstance(found, Entry):
                    last, after_gap = _add(builder, found, last, after_gap, damaged)
                else:
                    builder.notes[f"shard/{found.kind}"] += 1
                    after_gap = found.kind == "header"
                    damaged |= _find_damaged(builder, found, last, before)
        except ValueError as error:
            raise ValueError(f"{shard} {error}") from None
    for key in damaged:
        builder.samples.pop(key, None)
        builder.notes["sample/cut"] += 1
    if any(builder.notes[f"shard/{kind}"] for kind in GAPS) and before.keys() >= builder.samples.keys():
        builder.notes["sample/lost"] = len(before.keys() - builder.samples.keys() - damaged)
    unread = builder.notes["shard/header"] + builder.notes["shard/no-end"]
    if unread and not builder.samples and not builder.notes["sample/cut"] and shard.stat().st_size:
        raise ValueError(f"{shard} is not a tar file: it has no header that can be read")
    builder.notes += Counter()  # drops zeros
    return builder.build()


def _read_earlier(shard: Path) -> dict[str, dict[str, tuple[int, int, int]]]:
    """Read the earlier index beside a shard: key -> member -> (offset, size, CRC-32), {} without one."""
    try:
        content: Any = read_json(index_paths(shard)[0])
        old = parse_index(content, int(content["shard"]["size"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if old is None:
        return {}
    where = list(zip(old.offset.tolist(), old.size.tolist(), old.crc32.tolist(), strict=True))
    return {
        key: dict(zip(old.members(i), where[old.first[i] : old.first[i + 1]], strict=True))
        for i, key in enumerate(old.keys)
    }


def _find_damaged(
    builder: Builder, gap: Gap, last: str | None, before: dict[str, dict[str, tuple[int, int, int]]]
) -> set[str]:
    """Return the samples that may have lost a member to a gap: as a rule the last sample before it.

    None has where the archive was cut and one of these holds: the earlier index says that the last sample is complete,
    the rest of the next header names another sample, or the last sample has every member that any earlier one has.
    """
    parts = split_name(gap.name) if gap.name else None
    if gap.kind == "truncated" and parts is not None:
        return {parts[0]}
    if last is None or last not in builder.samples or gap.harmless:
        return set()
    if gap.kind == "no-end":
        if last in before and before[last].items() >= builder.samples[last].items():  # it is still about this shard
            return set() if before[last] == builder.samples[last] else {last}
        if parts is not None:
            return {last} if parts[0].rpartition("/")[2] == last.rpartition("/")[2] else set()
        if len(builder.samples) > 1 and builder.samples[last].keys() >= set().union(*builder.samples.values()):
            return set()
    return {last}


def _add(
    builder: Builder, entry: Entry, last: str | None, after_gap: bool, damaged: set[str]
) -> tuple[str | None, bool]:
    parts = split_name(entry.name)
    if parts is None:
        base = entry.name.rpartition("/")[2]
        if base.startswith("__") and base.endswith("__"):  # notes of webdataset
            return last, after_gap
        hidden = base.startswith(".") or "." not in base
        builder.notes["shard/other-file" if hidden and is_safe(entry.name) else "shard/unsafe-name"] += 1
        return last, after_gap
    key, member = parts
    if after_gap:
        damaged.add(key)  # its earlier members may be in the gap
    if key != last and key in builder.samples:
        builder.notes["shard/not-adjacent"] += 1
    if entry.file:
        builder.add(key, member, entry.offset, entry.size, entry.crc32)
    else:
        builder.notes["shard/no-file"] += 1
    return key, False
