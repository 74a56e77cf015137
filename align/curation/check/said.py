"""What a build noted of members that it wrote all the same: its list beside the shards is read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from align.curation.check.findings import Findings, Place
from align.curation.sources.foreign import split_name
from align.data.bad import NOTED
from align.data.shards import Shards
from align.media.pictures.read import is_deep


def check_said(shards: Shards, findings: Findings) -> None:
    """The notes of ``SPLIT-bad.jsonl`` beside each shard, for samples that are in it; not those that a check makes."""
    said: dict[Path, dict[str, list[Mapping[str, Any]]]] = {}
    start = 0
    for path, index in zip(shards.urls, shards.indexes, strict=True):
        if isinstance(path, Path) and (split := split_name(path)) is not None:
            listed = path.with_name(f"{split}-bad.jsonl")
            if listed not in said:
                said[listed] = {}
                for line in notes(listed):
                    said[listed].setdefault(line["key"], []).append(line)
            for i, key in enumerate(index.keys if said[listed] else ()):
                for line in said[listed].get(key, ()):
                    if is_seen(shards, start + i, line):
                        continue
                    place = Place(str(path), key, str(line.get("member", "")), start + i)
                    findings.add(line["reason"], place, str(line.get("detail", "")))
        start += len(index)


def is_seen(shards: Shards, position: int, line: Mapping[str, Any]) -> bool:
    """Whether a check finds the same itself: the picture that a build spoke of is in the shard as it came."""
    if not line["reason"].startswith("image/"):
        return False
    data = shards.read(position)[0].get(str(line.get("member", "")))
    return data is not None and is_deep(data)


def notes(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a build's list that say something of a sample that is there; none where there is no list."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for line in text.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("reason") in NOTED and isinstance(said.get("key"), str):
            yield said
