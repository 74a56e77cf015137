"""The server's log. Nothing that a visitor has sent is in it.

The message of an exception can hold a visitor's text, a name of a file or a token. So the log has its class and its
lines of code, and never its message.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from typing import Any, TextIO, final

log = logging.getLogger("align.serve")
access = logging.getLogger("align.serve.access")


@final
class Lines(logging.Formatter):
    """Lines that begin with "align: ". Exceptions are told by ``describe``."""

    def __init__(self) -> None:
        super().__init__("align: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another handler's formatter may have kept the message there
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        return describe(ei[1])


def start_log(requests: bool = False, stream: TextIO | None = None) -> None:
    """Write warnings and errors of all libraries to stderr, and with ``requests`` a line for each request."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Lines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    access.setLevel(logging.INFO if requests else logging.WARNING)


def tell_request(method: str, route: str, status: int, seconds: float) -> None:
    """Log a request that has been answered. route: the pattern of its path, never the path."""
    if access.isEnabledFor(logging.INFO):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        access.info("%s %s %s %d %.0f ms", now, method, route, status, 1000 * seconds)


def tell_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error outside of requests. The event loop's own handler prints the arguments of callbacks."""
    error = context.get("exception")
    log.error("an error outside of requests: %s", describe(error) if error else "no exception")


def describe(error: BaseException) -> str:
    """Return the class of an exception and its lines of code, then those of the one that it came from.

    >>> describe(ValueError("a visitor's text"))
    'ValueError'
    """
    lines: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        name = f"{type(one).__module__}.{type(one).__qualname__}".removeprefix("builtins.")
        places = "".join(traceback.format_tb(one.__traceback__)).rstrip()
        lines.append(f"{'from ' if lines else ''}{name}" + (f"\n{places}" if places else ""))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n".join(lines)
