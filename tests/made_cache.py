"""A plain writer of caches for tests: one model, one row after another, to the format that the reader expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from align import JointModel
from align.checkpoint.fingerprint import fingerprint
from align.data import Shards
from align.data.columns.format import BLOCK, hash_keys
from align.data.columns.part import PartWriter
from align.data.meta import read_meta
from align.data.pieces import Pieces
from align.files import read_json, sha256, write_json


def write_cache(
    folder: Path,
    name: str,
    model: JointModel,
    shards: Any,
    *,
    towers: tuple[str, ...] | None = None,
    dtype: torch.dtype = torch.float32,
    tokens: tuple[str, ...] = (),
    kind: str = "features",
    where: str = "runs/x",
    block: int = BLOCK,
) -> Path:
    """Add a set to a cache. Every fact is that of the contract, hashes of weights apart: the fingerprint serves."""
    model = model.eval()
    places = Shards(shards, shuffle=False).urls
    readers = {m: model.preprocess[m] for m in towers or model.modalities}
    entries = []
    for place in places:
        one = Shards([place], shuffle=False, max_bad=1)
        entry = {"name": place.name, "sha256": sha256(str(place)), "samples": len(one)}
        entries.append(entry | {"keys": hash_keys(one.indexes[0].keys)})
        with PartWriter(folder, name, place.name, source=entry["sha256"]) as part:
            pieces = Pieces(one, readers, block, False, 0, 0, 1, 0, -(-len(one) // block), -(-len(one) // block), None)
            for batch, bad in pieces:
                if isinstance(batch, Exception):
                    raise batch
                start = int(batch.position[0])
                tensors = tensors_of(model, batch, start, dtype, tokens, kind)
                stated = [read_meta(one.read(p)[0], one.members)[0].weight for p in range(start, start + batch.size)]
                if any(weight is not None for weight in stated):
                    tensors["weight"] = torch.tensor([float("nan") if w is None else w for w in stated])
                part.add(start, batch.size, tensors, about(batch, bad, one))
    path = folder / "cache.json"
    content = read_json(path) if path.is_file() else {"schema": 1, "shards": entries, "sets": {}}
    columns = {
        m: {
            "weights": fingerprint(model),
            "preprocess": "b" * 64,
            "kind": kind,
            "unit": kind == "embedding",
            "scale": None,
            "windows": None,
            "dtype": str(dtype).removeprefix("torch."),
            "width": model.towers[m].encoder.width if kind == "features" else model.dim,
            "tokens": m in tokens,
        }
        for m in readers
    }
    content["sets"][name] = {"model": where, "sha256": fingerprint(model), "columns": columns}
    write_json(path, content)
    return folder


@torch.no_grad()
def tensors_of(model, batch, start, dtype, tokens, kind) -> dict[str, torch.Tensor]:
    out = {}
    for m, rows in batch.items():
        tower = model.towers[m]
        features = tower.features(rows.values)
        values = features.pooled if kind == "features" else torch.nn.functional.normalize(tower(rows.values), dim=-1)
        out[f"{m}.values"] = values.to(dtype)
        out[f"{m}.sample"] = torch.where(rows.sample < 0, rows.sample - start, rows.sample + start)
        if m in tokens:
            mask = features.mask
            mask = torch.ones(features.tokens.shape[:2], dtype=torch.bool) if mask is None else mask
            out[f"{m}.tokens"] = features.tokens[mask].to(dtype)
            out[f"{m}.offset"] = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    if batch.group is not None:
        out["group"] = batch.group
    return out


def about(batch, bad, shards) -> dict[str, Any]:
    """The json of a block. Keys are the index's: a position without a row keeps its own."""
    start = int(batch.position[0])
    keys = shards.indexes[0].keys[start : start + batch.size]
    found = [[b.position, b.reason, b.member] for b in bad]
    return {"keys": keys, "labels": batch.labels, "source": batch.source, "bad": found}
