"""A medium: one kind of file, and everything that the house asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

Element = Literal["picture", "sound", "cloud", "text", "drawing"]


@final
@dataclass(frozen=True)
class Face:
    """A member made small for a page, as data and never as HTML.

    element: how it is drawn; data: what is drawn (an encoded picture or sound as base64 with its type, numbers of a
    cloud, a text, or the polylines of a drawing); more: further facts that the page shows beside it.
    """

    element: Element
    data: Any
    more: Mapping[str, Any] = field(default_factory=dict)
