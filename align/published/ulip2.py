"""``ulip2``: ULIP-2's point towers (Xue et al. 2023, arXiv:2305.08275)."""

from __future__ import annotations

from collections.abc import Collection

from align.model import JointModel


def load(source: str) -> JointModel:
    raise NotImplementedError


def fits(keys: Collection[str]) -> bool:
    return False
