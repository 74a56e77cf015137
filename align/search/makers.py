"""The models whose rows an index holds: the one that made it, and later ones whose rows compare with its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from align.checkpoint.fingerprint import fingerprint
from align.model import JointModel


def read_maker(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"source": ..., "sha256": ...}`` of the first model. An index of version 1 has the fingerprint alone."""
    model = about.get("model") or {}
    return {"sha256": model} if isinstance(model, str) else dict(model)


def list_makers(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the models of an index, the first one before later ones, which have the entry ``dims`` too."""
    return [read_maker(about), *map(dict, about.get("makers", ()))]


def find_stranger(about: Mapping[str, Any], model: JointModel) -> dict[str, Any] | None:
    """Return the first model of an index that made rows which do not compare with a model's, None where all do.

    A model's rows compare with its earlier ones' where its ``compatible_with`` declares as many first coordinates as
    the index has. Every model of an index was declared so when its first row came.
    """
    makers, checksum = list_makers(about), fingerprint(model)
    if checksum in [one.get("sha256") for one in makers]:
        return None
    dims = int(about.get("dim") or model.dim)
    for one in makers:
        if one.get("sha256") and model.compatible_with.get(str(one["sha256"]), 0) < dims:
            return one
    return None


def find_dims(about: Mapping[str, Any], model: JointModel) -> int | None:
    """Return the number of first coordinates by which a model's embeddings are rows of an index, None for all."""
    dims = about.get("dim")
    return int(dims) if dims is not None and int(dims) < model.dim else None


def cut_rows(values: Tensor, dims: int | None, *, normalize: bool) -> Tensor:
    """Return the first coordinates (..., dims) of rows (..., D), at the length 1 again where the model normalises."""
    if dims is None:
        return values
    cut = values[..., :dims]
    return F.normalize(cut, dim=-1, eps=1e-6) if normalize else cut
