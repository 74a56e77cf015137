"""``align assemble`` completes a run's heads with their encoders."""

from __future__ import annotations

from align.commands.errors import Refused


def assemble(source: str, /, *, out: str) -> None:
    """Complete heads that were trained on cached features with their encoders

    Args:
        source: a run
        out: the folder to write
    """
    raise Refused("not there yet", code=2)
