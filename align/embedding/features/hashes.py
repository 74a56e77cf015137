"""Hashes of a tower, by which a cache and a head that is trained on it recognise the tower."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import torch

from align.checkpoint.describe import describe
from align.files import json_text
from align.model.inside import unwrap, weights

Kind = Literal["features", "embedding"]


def tower_weights(tower: Any, kind: Kind = "features") -> str:
    """Return the SHA-256 of a tower's weights: those of its encoder, and for "embedding" those of its head too.

    It covers the sorted names, the dtypes, the shapes and the bytes. Wrappers around modules change nothing.
    """
    tower = unwrap(tower)
    parts = {"encoder": tower.encoder} | ({"head": tower.head} if kind == "embedding" else {})
    sums = hashlib.sha256()
    for part, module in parts.items():
        for name, x in sorted(weights(module).items()):
            x = x.detach().cpu().contiguous()
            sums.update(f"{part}.{name} {x.dtype} {list(x.shape)}\n".encode())
            sums.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return sums.hexdigest()


def preprocess_hash(preprocess: Any) -> str:
    """Return the SHA-256 of a preprocess's description as canonical JSON.

    A file that it needs counts by its content, wherever the file lies.
    """
    described = describe(preprocess)
    for argument, text in preprocess.assets().items():
        described["init_args"][argument] = {"sha256": hashlib.sha256(_canonical(text).encode()).hexdigest()}
    return hashlib.sha256(json.dumps(described, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _canonical(text: str) -> str:
    """Return JSON in canonical form, and any other text as it is."""
    try:
        return json_text(json.loads(text))
    except ValueError:
        return text
