"""A look inside shards: a description of members, in words that a person reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.data.meta import read_meta
from align.data.names import LABEL, TEXT, find_mapped, has_lines, member_modality
from align.data.shards import Shards
from align.files import atomic_write
from align.media import MEDIA, Media, Medium
from align.media.choice import medium_of
from align.media.medium import Cells
from align.values import Sample

PLACE = frozenset({"key", "url", "position", "label", "member", "bytes"})
"""Names in an example that say nothing of its content."""


def look(shards: Shards, each: int = 1, media: Media = MEDIA) -> dict[str, Any]:
    """Count samples and modalities, and describe the first ``each`` samples of every modality: JSON-able.

    {shards, samples, modalities: {name: samples}, classes, licence, ignored, bad, examples: {modality: [{key, url,
    position, member, bytes, label, ...}]}}
    """
    missing = {modality: each for modality, n in shards.modalities.items() if n}
    examples: dict[str, list[dict[str, Any]]] = {modality: [] for modality in missing}
    for sample in shards.samples(0):
        if not missing:
            break
        for modality in list(missing):
            found = [member for member in sample if _is(member, modality)] or _foreign(sample, modality, shards)
            if all(".neg." in member for member in found):  # hard negatives alone match nothing
                continue
            label = read_meta(sample, shards.members)[0].label
            place = {
                "key": sample["__key__"],
                "url": sample["__url__"],
                "position": sample["__index__"],
                "label": label,
            }
            examples[modality] += [{**place, **_member(sample, member, media)} for member in found]
            missing[modality] -= 1
            if not missing[modality]:
                del missing[modality]
    return {
        "shards": len(shards.urls),
        "samples": len(shards),
        "modalities": shards.modalities,
        "classes": shards.classes,
        "licence": (shards.manifest or {}).get("licence"),
        "ignored": shards.ignored,
        "bad": shards.report(),
        "examples": examples,
    }


def save(shards: Shards, examples: dict[str, list[dict[str, Any]]], folder: str | Path) -> list[Path]:
    """Write the members of the samples in ``examples`` as files. No name from a shard can lead out of ``folder``."""
    out = []
    for position in sorted({example["position"] for some in examples.values() for example in some}):
        sample, _ = shards.read(position)
        for member, data in sample.items():
            if member.startswith("__"):
                continue
            path = Path(folder) / f"{position:08d}.{re.sub(r'[^a-z0-9._-]+', '_', member)[:100].strip('.')}"
            with atomic_write(path) as file:
                file.write(data)
            out.append(path)
    return out


def describe(member: str, data: bytes, media: Media = MEDIA) -> dict[str, Any]:
    """Return facts about a member by its name or suffix, or ``{"error": …}``."""
    suffix = member.rpartition(".")[2]
    medium = describer(media, suffix, member_modality(member))
    try:
        if suffix == "json":
            return {"json": json.loads(data)}
        return {} if medium is None else medium.describe(data)
    except Exception as error:  # the parsers of these formats have no common class; nothing here is worth a stop
        return {"error": " ".join(str(error).split()) or type(error).__name__}


def say(example: Mapping[str, Any], media: Media = MEDIA) -> str:
    """Return the description in an example of ``look`` in words."""
    member, size = example["member"], example["bytes"]
    about = {name: value for name, value in example.items() if name not in PLACE}
    medium = describer(media, TEXT if ":" in member else member.rpartition(".")[2], member_modality(member))
    return f"{size} bytes" if medium is None or not about else medium.say(about, size)


def sketch(member: str, data: bytes, media: Media = MEDIA, *, colours: bool = True) -> str | Cells | None:
    """Return a drawing of a member in characters, by its name, or None."""
    medium = medium_of(media, member.rpartition(".")[2], member_modality(member))
    try:
        return None if medium is None else medium.sketch(data, colours=colours)
    except Exception:  # a medium from outside may raise anything
        return None


def describer(media: Media, suffix: str, modality: str) -> Medium | None:
    """Return the medium that describes members with a suffix. A label is described as a text."""
    return medium_of(media, TEXT if suffix == LABEL else suffix, modality)


def _is(member: str, modality: str) -> bool:
    return not member.startswith("__") and member_modality(member) == modality


def _foreign(sample: Sample, modality: str, shards: Shards) -> list[str]:
    name = find_mapped(modality, shards.members, sample)
    return [] if name is None else [name]


def _member(sample: Sample, member: str, media: Media) -> dict[str, Any]:
    name, _, key = member.partition(":")
    data = sample[name]
    found = describe(name, data, media)
    if key and not has_lines(member):
        content = found.get("json")
        found = {"text": [str(content[key])]} if isinstance(content, dict) and key in content else {}
    return {"member": member, "bytes": len(data), **found}
