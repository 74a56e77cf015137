"""``ebind``: EBind's heads (Broadbent et al. 2025, arXiv:2511.14229)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from align.model import JointModel


def load(source: str, others: Mapping[str, JointModel]) -> JointModel:
    raise NotImplementedError


def fits(keys: Collection[str]) -> bool:
    return False
