"""Tensors of a safetensors file, whatever bytes its path has."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name. Raises SafetensorError for a damaged one."""
    from safetensors.torch import load, load_file

    try:
        str(path).encode()
    except UnicodeEncodeError:  # safetensors opens paths in UTF-8 alone
        return load(path.read_bytes())
    return load_file(path)
