"""Messages about bad samples: their counts, and the option that allows more of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
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
    """Return the error with a line that names the option."""
    return Refused(f"{error}\nto leave them out and go on, allow a larger share: {option} 0.1, or 1 for any number", 3)


def say_bad(counts: Mapping[str, int]) -> None:
    """Print counts of members by reason on stderr: bad ones, then those that are holes or belong to no tower."""
    from align.data.bad import is_fault

    for title, fault in (("bad members", True), ("left out", False)):
        found = [f"{n} {reason}" for reason, n in sorted(counts.items()) if n and is_fault(reason) == fault]
        if found:
            print(f"{title}: {', '.join(found)}", file=sys.stderr)
