"""A loaded model on its device and in its precision. It stays the model of its file for caches, indexes and results."""

from __future__ import annotations

import torch

from align.checkpoint.fingerprint import fingerprint, is_cast, remember
from align.checkpoint.tower_weights import hash_tower, remember_tower
from align.model import JointModel
from align.model.inside import unwrap
from align.model.place import find_device, find_dtype


def place(model: JointModel, device: str | torch.device | None, dtype: str | torch.dtype | None) -> None:
    """Move a model to a device and cast its weights, in place. None leaves the device, or the precision, as it is.

    The floating parameters and buffers are cast. Preprocessing computes in float32 still, and so does the
    normalisation of the embeddings. Raises ValueError as ``find_device`` and ``find_dtype`` do.
    """
    onto = model.device if device is None else find_device(device)
    kind = None if dtype is None else find_dtype(dtype)
    casts = kind is not None and any(
        x.is_floating_point() and x.dtype != kind for x in (*model.parameters(), *model.buffers())
    )
    if not casts and onto == model.device:
        return
    known, was_cast = fingerprint(model), is_cast(model)
    towers = {m: unwrap(model.towers[m]) for m in model.modalities}
    stored = {m: hash_tower(tower) for m, tower in towers.items()} if casts else {}
    model.to(device=onto, dtype=kind if casts else None)
    remember(model, known, cast=casts or was_cast)
    for m, hashes in stored.items():
        remember_tower(towers[m], hashes)
