"""The option that allows more bad samples, in the message that stops a command for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from align.commands.errors import Refused


@contextmanager
def budget(option: str) -> Iterator[None]:
    """Name the option where the block stops for too many bad samples (exit code 3)."""
    from align.data.bad import TooManyBad

    try:
        yield
    except TooManyBad as error:
        message = f"{error}\nleave them out and go on with a larger share, as in {option} 0.1; 1 allows any number"
        raise Refused(message, error.exit_code) from error
