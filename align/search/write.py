"""The writer of an index folder, which appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import align
from align.data import Shards
from align.data.meta import read_meta
from align.data.names import FOREIGN, TEXT, MemberNames, find_mapped
from align.encoders.weights import write_tensors
from align.files import atomic_folder, atomic_write, json_text, sha256, write_json
from align.search.version1 import schema
from align.values import Embeddings, Sample


def write_index(
    embeddings: Embeddings,
    shards: Shards,
    folder: str | Path,
    *,
    model: str = "",
    parts: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Write an index folder for ``Index.open``. The shards are read once more for captions. An old index is replaced.

    Args:
        embeddings: of these shards, from ``align.embedding.embed_shards``.
        model: fingerprint of the model that made them, see ``align.embedding.fingerprint``.
        parts: origin and licence of the published weights in that model, see ``align.checkpoint.read_parts``.

    Raises ValueError where the embeddings are not of these shards, or where something else stands at `folder`.
    """
    folder = check_place(folder)
    items = _items(embeddings, shards)
    with atomic_folder(folder) as work:
        modalities, dim = {}, 0
        for m, rows in embeddings.items():
            if not isinstance(rows.values, Tensor):
                raise TypeError(f"the embeddings of {m} are no tensor")
            order = torch.argsort(rows.sample, stable=True)
            order = order[rows.sample[order] >= 0]  # hard negatives belong to no sample
            if not len(order):
                continue
            modalities[m], dim = len(order), rows.values.shape[1]
            stored = {"values": rows.values[order].float().cpu(), "sample": rows.sample[order].cpu()}
            write_tensors(stored, work / f"{m}.safetensors")
        with atomic_write(work / "items.jsonl", "w") as file:
            file.writelines(json_text(item) + "\n" for item in items)
        names = sorted(path.name for path in work.iterdir())
        about = {
            "schema": schema,
            "align": align.__version__,
            "model": model,
            **({"parts": dict(parts)} if parts else {}),
            "dim": dim,
            "modalities": modalities,
            "samples": len(items),
            "sha256": {name: sha256(work / name) for name in names},
        }
        write_json(work / "index.json", about)
    return folder


def check_place(folder: str | Path) -> Path:
    """Return the folder of an index to be written. Raises ValueError where something else stands there."""
    folder = Path(folder)
    if folder.exists() and not (folder / "index.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and is no index; choose another folder with --out")
    return folder


def captions(sample: Sample, members: MemberNames = FOREIGN) -> list[str]:
    """Return the lines of a sample's texts, else the captions in its json under the keys that `members` names.

    Hard negatives are left out.
    """
    lines: list[str] = []
    for name in sorted(sample):
        parts, content = name.split("."), sample[name]
        if parts[-1] == TEXT and "neg" not in parts and isinstance(content, bytes | str):
            text = content.decode(errors="replace") if isinstance(content, bytes) else content
            lines += [line.strip() for line in text.splitlines() if line.strip()]
    return lines or _of_json(sample, members)


def _of_json(sample: Sample, members: MemberNames) -> list[str]:
    names = [find_mapped(m, members, sample) or "" for m in members if m != "label"]
    keys = [name.removeprefix("json:") for name in names if name.startswith("json:")]
    stated = read_meta(sample, members)[0].json or {} if keys else {}
    found = [stated.get(key) for key in keys]
    texts = [text for value in found for text in (value if isinstance(value, list) else [value])]
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


def _items(embeddings: Embeddings, shards: Shards) -> list[dict[str, Any]]:
    place = {int(position): i for i, position in enumerate(embeddings.position)}
    items: list[dict[str, Any] | None] = [None] * embeddings.size
    for sample in shards.samples(0):
        i = place.get(int(sample["__index__"]))
        if i is None:
            continue
        if sample["__key__"] != embeddings.ids[i]:
            raise ValueError(f"position {sample['__index__']} is {sample['__key__']!r}, was {embeddings.ids[i]!r}")
        label = embeddings.labels[i] if embeddings.labels else None
        url = str(sample["__url__"])
        shard = url if "://" in url else str(Path(url).resolve())
        items[i] = {
            "key": sample["__key__"],
            "shard": shard,
            "caption": captions(sample, shards.members),
            "label": label,
        }
    if any(item is None for item in items):
        raise ValueError("the embeddings have samples that the shards lack; embed them again")
    return [item for item in items if item is not None]
