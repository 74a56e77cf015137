"""``align bind`` fits heads in closed form on cached features."""

from __future__ import annotations

from align.commands.errors import Refused


def bind(source: str, /, *, out: str) -> None:
    """Fit heads between cached features, in closed form

    Args:
        source: a run
        out: the folder to write
    """
    raise Refused("not there yet", code=2)
