"""The error that a client gets: a status, one line with a remedy, and a code for programs."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class Refusal(Exception):
    """An answer other than the one that was asked for.

    Args:
        status: of HTTP. message: one line for people. code: a short name for programs.
        param: the field of the request that caused it. retry: seconds after which to ask again.
    """

    def __init__(self, status: int, message: str, *, code: str = "", param: str | None = None, retry: int = 0):
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.code = code or CODES.get(status, "refused")
        self.param = param
        self.retry = retry

    def body(self) -> dict[str, Any]:
        """Return the error in the form of OpenAI's API."""
        kind = "server_error" if self.status >= 500 else KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_type",
    416: "bad_range",
    421: "unknown_host",
    422: "unprocessable",
    429: "busy",
    431: "too_large",
    500: "failed",
    503: "unavailable",
}
KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def suggest(name: str, names: Iterable[str]) -> str:
    """Return ``did you mean 'NAME'?`` where a name is near, else the list of names.

    >>> suggest("imge", ["image", "text"])
    "did you mean 'image'?"
    """
    known = sorted(set(names))
    near = get_close_matches(name[:100], known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"


def shorten(text: str, most: int = 60) -> str:
    """Return a visitor's text on one line and short, for a message about it."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return repr(line if len(line) <= most else line[: most - 1] + "…")
