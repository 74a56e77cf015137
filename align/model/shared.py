"""Encoders that several towers have in common: one tower owns each, and others borrow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.model.naming import naming


def lend(towers: Any, share: Mapping[str, str]) -> None:
    """Give towers the encoders of other towers, in place: {"video": "image"}.

    Raises ValueError for a tower that is not there, for one that lends and borrows, and as ``Tower.borrow`` does.
    """
    for borrower, lender in share.items():
        for name in (borrower, lender):
            if name not in towers:
                raise ValueError(f"share names {name!r}; the towers are {', '.join(towers)}")
        if lender in share:
            raise ValueError(f"share: {borrower!r} borrows from {lender!r}, which borrows itself; name the owner")
        with naming(f"tower {borrower!r}"):
            towers[borrower].borrow(towers[lender])


def check_encoder(name: str, tower: Any, share: Mapping[str, str], owners: dict[int, str]) -> None:
    """Raise ValueError for a tower without an encoder, or with that of another tower where ``share`` does not say so.

    owners: id of an encoder -> the tower that owns it, of the towers before this one, which is added.
    """
    if tower.encoder is None:
        raise ValueError("has no encoder, and 'share' gives it none")
    owner = owners.setdefault(id(tower.encoder), share.get(name, name))
    if owner != name and name not in share:
        raise ValueError(f"has the encoder of {owner!r}; say so with share={{{name!r}: {owner!r}}}")
