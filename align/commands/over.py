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
        raise over(error, option) from error


def over(error: Exception, option: str) -> Refused:
    """The error with a line that names the option."""
    return Refused(f"{error}\nto leave them out and go on, allow a larger share: {option} 0.1, or 1 for any number", 3)
