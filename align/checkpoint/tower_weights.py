"""Hashes of a tower's weights, by which a cache and a head that is trained on it recognise the tower."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from align.model.inside import unwrap, weights
from align.model.origin import bit_sums

Kind = Literal["features", "embedding"]

_stored: WeakKeyDictionary[nn.Module, tuple[dict[str, int], dict[Kind, str]]] = WeakKeyDictionary()


def tower_weights(tower: Any, kind: Kind = "features") -> str:
    """Return the SHA-256 of a tower's weights: those of its encoder, and for "embedding" those of its head too.

    It covers the sorted names, the dtypes, the shapes and the bytes. Wrappers around modules change nothing. A tower
    that ``align.load`` has cast to another precision has the hash of its stored weights, until they change.
    """
    tower = unwrap(tower)
    if tower in _stored and _stored[tower][0] == _sum_up(tower):
        return _stored[tower][1][kind]
    return hash_tower(tower)[kind]


def hash_tower(tower: Any) -> dict[Kind, str]:
    """Return the SHA-256 of both kinds, of the weights as they are in memory."""
    sums, found = hashlib.sha256(), {}
    for kind, part, module in (("features", "encoder", tower.encoder), ("embedding", "head", tower.head)):
        for name, x in sorted(weights(module).items()):
            x = x.detach().cpu().contiguous()
            sums.update(f"{part}.{name} {x.dtype} {list(x.shape)}\n".encode())
            sums.update(x.reshape(-1).view(torch.uint8).numpy().data)
        found[kind] = sums.hexdigest()
    return found


def remember_tower(tower: Any, stored: Mapping[Kind, str]) -> None:
    """Keep the hashes of a tower's stored weights, of which the present ones are a cast."""
    _stored[tower] = (_sum_up(tower), dict(stored))


def _sum_up(tower: Any) -> dict[str, int]:
    parts: dict[str, Tensor] = {}
    for part, module in (("encoder", tower.encoder), ("head", tower.head)):
        parts |= {f"{part}.{name}": x for name, x in weights(module).items()}
    return bit_sums(parts)
