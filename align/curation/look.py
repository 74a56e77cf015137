"""A look inside shards: what a member is, in words that a person reads."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from align.data.meta import read_meta
from align.data.names import find_mapped, row_name
from align.data.shards import Shards
from align.files import atomic_write
from align.media.npy import read_npy
from align.media.pictures.read import open_picture
from align.media.sounds.recording import heading
from align.preprocess import Audio, Image, Points
from align.preprocess.points import has_colour
from align.values import Sample


def look(shards: Shards, each: int = 1) -> dict[str, Any]:
    """Counts, and the first ``each`` samples of every modality: JSON-able.

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
            if all(".neg." in member for member in found):  # it has no row of it that matches anything
                continue
            label = read_meta(sample, shards.members)[0].label
            place = {
                "key": sample["__key__"],
                "url": sample["__url__"],
                "position": sample["__index__"],
                "label": label,
            }
            examples[modality] += [{**place, **_member(sample, member)} for member in found]
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
    """Write the members of the samples in ``examples`` as files; no name from a shard can lead out of ``folder``."""
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


def describe(member: str, data: bytes) -> dict[str, Any]:
    """What the bytes of a member are, by its suffix; ``{"error": …}`` where they cannot be read."""
    suffix = member.rpartition(".")[2]
    try:
        if suffix in Image.suffixes:
            return _image(data)
        if suffix in Audio.suffixes:
            return _sound(data)
        if suffix == "npy":
            return _array(data)
        if suffix in ("txt", "cls"):
            return {"text": data.decode("utf-8").splitlines()}
        if suffix == "json":
            return {"json": json.loads(data)}
    except Exception as error:  # the parsers of these formats have no common class; nothing here is worth a stop
        return {"error": " ".join(str(error).split()) or type(error).__name__}
    return {}


def _is(member: str, modality: str) -> bool:
    row = None if member.startswith("__") else row_name(member)
    return row is not None and row.modality == modality


def _foreign(sample: Sample, modality: str, shards: Shards) -> list[str]:
    name = find_mapped(modality, shards.members, sample)
    return [] if name is None else [name]


def _member(sample: Sample, member: str) -> dict[str, Any]:
    name, _, key = member.partition(":")
    data = sample[name]
    found = describe(name, data)
    if key:
        content = found.get("json")
        found = {"text": [str(content[key])]} if isinstance(content, dict) and key in content else {}
    return {"member": member, "bytes": len(data), **found}


def _image(data: bytes) -> dict[str, Any]:
    with open_picture(data) as found:
        return {"width": found.image.width, "height": found.image.height, "mode": found.image.mode}


def _sound(data: bytes) -> dict[str, Any]:
    found = heading(data)
    return {"seconds": round(found.seconds, 4), "rate": found.rate, "channels": found.channels}


def _array(data: bytes) -> dict[str, Any]:
    from numpy.lib import format as npy

    file = io.BytesIO(data)
    read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    found: dict[str, Any] = {"shape": list(shape), "dtype": str(dtype)}
    if len(shape) == 2 and shape[1] == 6 and dtype.kind in "fiu":
        found["colour"] = has_colour(read_npy(io.BytesIO(data), "points", limit=6 * Points().max_points))
    return found
