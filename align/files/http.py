"""The HTTP client: sizes, byte ranges and whole files over http(s). Each call is one attempt, ``retry`` makes more.

Connections are kept between requests (``align.files.pool``). Redirects are followed, without the credentials.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, final
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from align.files.pool import connections

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

CHUNK = 1 << 18
REST = 1 << 16  # bytes of an answer nobody reads that are read all the same, to keep its connection
SLOWEST = 1 << 15  # bytes a second: a body that comes slower than this, beyond the timeout, is given up
REDIRECTS = 10
COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".br", ".z")


@final
class Status(OSError):
    """An answer with a status that is no success. after: seconds that the server asks to wait (``Retry-After``)."""

    def __init__(self, code: int, reason: str, *, after: float = 0.0, headers: Mapping[str, str] | None = None):
        super().__init__(f"{code} {reason}")
        self.code, self.reason, self.after, self.headers = code, reason, after, headers or {}


@dataclass(frozen=True)
class Stat:
    """A file's bytes on its server, the marks that change with its content, and whether the server gives ranges."""

    size: int
    etag: str = ""
    modified: str = ""
    ranges: bool = True


def display_url(url: str) -> str:
    """Return the URL for messages: without user, password and query, which may hold a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))


def stat(url: str, *, timeout: float = 30) -> Stat:
    """Return size and version by HEAD, or by a range of one byte where the server forbids HEAD. Raises OSError."""
    try:
        with request(url, {}, timeout, "HEAD") as response:
            size = response.headers.get("Content-Length", "")
            if size.isdecimal() and response.headers.get("Accept-Ranges", "").strip().lower() == "bytes":
                return _stat(response, int(size), ranges=True)
    except Status as error:
        if error.code not in (400, 403, 405, 501):  # servers that know or allow GET only answer so
            raise
    try:
        with request(url, {"Range": "bytes=0-0"}, timeout) as response:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = total if response.status == 206 else response.headers.get("Content-Length", "")
            if not size.isdecimal():
                raise OSError("the server does not say how large it is")
            return _stat(response, int(size), ranges=response.status == 206)
    except Status as error:
        if error.code == 416:  # no first byte: the file is empty
            return Stat(0)
        raise


def get(url: str, begin: int, end: int, *, timeout: float = 30) -> bytes:
    """Return the bytes ``begin`` to ``end`` (without it), all of them. Raises OSError for less, or another range."""
    if begin >= end:
        return b""
    with request(url, {"Range": f"bytes={begin}-{end - 1}"}, timeout) as response:
        given = response.headers.get("Content-Range", "")
        if response.status != 206 or not given.startswith(f"bytes {begin}-"):
            raise OSError(f"asked for bytes {begin}-{end - 1}, the server gave {given or 'the whole file'}")
        return b"".join(read_body(response, end - begin, timeout))


def read_whole(url: str, *, timeout: float = 30) -> Iterator[bytes]:
    """Yield the whole file in chunks. Raises OSError, also where the connection ends before the stated length."""
    with request(url, {}, timeout) as response:
        yield from read_body(response, content_length(response), timeout)


def read_body(response: BaseHTTPResponse, size: int | None, patience: float | None) -> Iterator[bytes]:
    """Yield an answer's body in chunks. Raises OSError where it breaks off.

    size: its bytes, where they are known. patience: seconds beyond which a body slower than SLOWEST is given up, None
    for never.
    """
    from urllib3.exceptions import HTTPError

    read = response.read if patience is None else response.read1  # read1 returns early, so that slowness is seen
    began, got = time.monotonic(), 0
    while size is None or got < size:
        try:
            chunk = read(CHUNK if size is None else min(CHUNK, size - got))
        except HTTPError as error:
            cause = _first_cause(error)
            if isinstance(cause, HTTPException):
                raise OSError(f"the connection broke after {got} bytes ({type(cause).__name__})") from None
            raise OSError(str(cause) or type(cause).__name__) from None
        if not chunk:
            break
        got += len(chunk)
        if patience is not None and time.monotonic() - began > patience + got / SLOWEST:
            raise TimeoutError(f"too slow: {got} bytes in {time.monotonic() - began:.0f} s")
        yield chunk
    if size is not None and got != size:
        raise OSError(f"the connection ended after {got} of {size} bytes")


def content_length(response: BaseHTTPResponse) -> int | None:
    """Return the stated length of an answer's body in bytes, None where it has none."""
    size = response.headers.get("Content-Length", "")
    return int(size) if size.isdecimal() else None


@contextmanager
def request(url: str, headers: Mapping[str, str], timeout: float, method: str = "GET") -> Iterator[BaseHTTPResponse]:
    """Ask for a URL, for the length of a block: an answer of status 2xx, its body unread. Raises Status and OSError.

    timeout: seconds that the connection, and each piece of the answer, may take. User and password in the URL are sent
    to its own server alone.
    """
    from urllib3.exceptions import HTTPError

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    sent = {"User-Agent": "align", "Accept-Encoding": "identity", **headers}
    basic = {"Authorization": f"Basic {base64.b64encode(unquote(user).encode()).decode()}"} if at else {}
    for _ in range(REDIRECTS + 1):
        try:
            response = connections(url).urlopen(
                method,
                url,
                headers={**sent, **basic},
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                enforce_content_length=False,  # ``read_body`` compares the lengths
            )
        except HTTPError as error:
            cause = _first_cause(error)
            raise OSError(str(cause) or type(cause).__name__) from None
        try:
            place = response.get_redirect_location()
            success = 200 <= response.status < 300
            if success:
                _check_encoding(response, parts.path)
                yield response
            _read_rest(response)
            if success:
                return
            if not place:
                after = _seconds(response.headers.get("Retry-After", ""))
                raise Status(response.status, response.reason or "", after=after, headers=response.headers)
            url, basic = urljoin(url, place), {}
        finally:  # a connection with something left to read is closed
            response.close()
            response.release_conn()
    raise OSError(f"more than {REDIRECTS} redirects")


def _check_encoding(response: BaseHTTPResponse, path: str) -> None:
    """Raise OSError where the body is compressed on the way: its bytes and ranges are those of another file.

    Servers call a file that is compressed itself encoded too: its bytes are right.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity") and not path.lower().endswith(COMPRESSED):
        raise OSError(f"the server gave it compressed ({encoding}), though asked for the file as it is")


def _read_rest(response: BaseHTTPResponse) -> None:
    """Read the end of an answer where it is short, so that its connection can be used again."""
    from urllib3.exceptions import HTTPError

    if response.length_remaining is not None and response.length_remaining <= REST:
        with suppress(HTTPError):
            response.read(REST)


def _stat(response: BaseHTTPResponse, size: int, *, ranges: bool) -> Stat:
    return Stat(size, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), ranges)


def _first_cause(error: BaseException) -> BaseException:
    """Return the innermost error: urllib3 wraps it in words of its own, as a cause or as an argument."""
    inside = error.__cause__ or next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    return error if inside is None else _first_cause(inside)


def _seconds(after: str) -> float:
    """Return the seconds that a ``Retry-After`` (a number or a date) asks to wait, 0 where it is neither."""
    try:
        return float(after) if after.strip().isdigit() else parsedate_to_datetime(after).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
