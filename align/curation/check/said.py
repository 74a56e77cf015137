"""Notes of a build about members that it wrote, read again from its list beside the shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from align.curation.check.findings import Findings, Place
from align.curation.sources.foreign import split_name
from align.data.bad import NOTED
from align.data.names import member_modality
from align.data.shards import Shards
from align.media import MEDIA, Media
from align.media.choice import medium_of


def check_said(shards: Shards, findings: Findings, media: Media = MEDIA) -> None:
    """Find the notes in ``SPLIT-bad.jsonl`` beside each shard about its samples.

    Notes that the check itself makes are skipped.
    """
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
                    if is_seen(shards, start + i, line, media):
                        continue
                    place = Place(str(path), key, str(line.get("member", "")), start + i)
                    findings.add(line["reason"], place, str(line.get("detail", "")))
        start += len(index)


def is_seen(shards: Shards, position: int, line: Mapping[str, Any], media: Media) -> bool:
    """Return True where the check makes the same note, because the member is in the shard as it came."""
    member = str(line.get("member", ""))
    medium = medium_of(media, member.rpartition(".")[2], member_modality(member))
    if medium is None or line["reason"] not in medium.reasons:
        return False
    data = shards.read(position)[0].get(member)
    return data is not None and medium.notes_again(data)


def notes(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of a build's list that are notes about a written sample. A missing list has none."""
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
