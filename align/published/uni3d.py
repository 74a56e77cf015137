"""``uni3d``: Uni3D's point towers (Zhou et al. 2023, arXiv:2310.06773)."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel


def load(source: str) -> JointModel:
    raise NotImplementedError


def fits(keys: Collection[str]) -> bool:
    return False
