"""What the commands that use a model have in common: lists in one option, and where to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def split(names: str | None) -> list[str]:
    """``a, b`` -> ["a", "b"]; None -> []."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
