"""Order files: the cluster of each sample, by which a set is shuffled so that a batch holds whole clusters.

A file is a safetensors file with ``cluster``, (N,) int32, and in its metadata under ``align.order`` a JSON text:
``{"schema": 1, "shards": [{"samples", "keys"}]}``, for the shards of which it holds. keys: as ``hash_keys`` gives them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from align.files import atomic_write

FIELD, SCHEMA = "align.order", 1


class Held(NamedTuple):
    """A shard of an order file: the number of its samples, and the hash of their keys."""

    samples: int
    keys: str


def write_order(path: str | Path, clusters: np.ndarray, shards: Sequence[Held]) -> None:
    """Write the cluster (N,) of each sample of some shards, which are numbered through. A file there is replaced.

    Raises ValueError where the shards have another number of samples than N.
    """
    from safetensors.torch import save

    if len(clusters) != (total := sum(shard.samples for shard in shards)):
        raise ValueError(f"an order has a cluster for each of the {total} samples; got {len(clusters)}")
    about = json.dumps({"schema": SCHEMA, "shards": [shard._asdict() for shard in shards]})
    tensor = torch.from_numpy(clusters.astype(np.int32))
    with atomic_write(path) as file:
        file.write(save({"cluster": tensor}, {FIELD: about}))


def read_order(path: str | Path, shards: Sequence[Held]) -> np.ndarray:
    """Return the cluster (N,) int64 of each sample of some shards.

    Raises FileNotFoundError where there is no file, ValueError for another file and for one of other shards.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no order file at {path}; `align shards order` writes one")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[FIELD])
            clusters, held = file.get_tensor("cluster"), [Held(**shard) for shard in about["shards"]]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no order file; `align shards order` writes one") from error
    if about["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {about['schema']}, this version reads {SCHEMA}")
    if len(held) != len(shards):
        raise ValueError(f"{path} is the order of {len(held)} shards, these are {len(shards)}; write it anew for them")
    for i, (ours, theirs) in enumerate(zip(shards, held, strict=True), 1):
        if ours != theirs:
            odd = "other keys" if ours.samples == theirs.samples else f"{ours.samples} samples, not {theirs.samples}"
            raise ValueError(f"{path} is the order of other shards: number {i} has {odd}; write it anew for these")
    if clusters.shape != (sum(shard.samples for shard in shards),):
        raise ValueError(f"{path} is damaged: it has {len(clusters)} clusters")
    return clusters.numpy().astype(np.int64)
