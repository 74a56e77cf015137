"""Heads inside heads: modules, or callables that make one of a width and a dim."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

AnyHead = nn.Module | Callable[[int, int], nn.Module]
"""A head, or a callable that makes one of ``width`` and ``dim``."""


def make_inner(head: AnyHead, width: int, dim: int) -> nn.Module:
    """Return the head itself where it is a module, else ``head(width, dim)``.

    Raises ValueError for a module of another width or dim.
    """
    if not isinstance(head, nn.Module):
        return head(width, dim)
    for name, wanted in (("width", width), ("dim", dim)):
        found = getattr(head, name, wanted)
        if found != wanted:
            raise ValueError(f"the head inside, {type(head).__name__}, has {name} {found}, the one around it {wanted}")
    return head
