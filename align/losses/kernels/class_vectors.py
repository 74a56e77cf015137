"""Vectors of classes from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def read_vectors(path: str, classes: Sequence[str], dim: int) -> Tensor:
    """Return (C, D), the vectors of the classes in a file of safetensors."""
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise ValueError(f"vectors is 'learned', 'means' or a file of safetensors; {path!r} is none")
    found = load_file(path)
    for name in classes:
        if name not in found or found[name].shape != (dim,):
            got = f"has the shape {tuple(found[name].shape)} for it" if name in found else "has no tensor of that name"
            raise ValueError(f"class {name!r} needs a vector of {dim} numbers; {path} {got}")
    return torch.stack([found[name].float() for name in classes])
