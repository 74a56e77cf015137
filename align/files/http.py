"""Byte ranges over http(s), with the standard library alone. One attempt each: who asks decides about a second."""

from __future__ import annotations

import base64
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final
from urllib.parse import unquote, urlsplit, urlunsplit

CHUNK = 1 << 18
SLOWEST = 1 << 15  # bytes a second: a body that comes slower than this, beyond the timeout, is given up


@final
class Status(OSError):
    """The server answered, but not with what was asked for."""

    def __init__(self, code: int, reason: str):
        super().__init__(f"{code} {reason}")
        self.code = code


@dataclass(frozen=True)
class Stat:
    """What a server says of a file: bytes, what changes with its content, and whether it gives parts of it."""

    size: int
    etag: str = ""
    modified: str = ""
    ranges: bool = True


def shown(url: str) -> str:
    """The URL for messages: without user, password and query, which may hold a signature."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))


def stat(url: str, *, timeout: float = 30) -> Stat:
    """Size and version by HEAD, or by a range of one byte where the server forbids HEAD. Raises OSError."""
    try:
        with _open(url, {}, timeout, "HEAD") as response:
            size = response.headers.get("Content-Length", "")
            if size.isdigit() and response.headers.get("Accept-Ranges", "").strip().lower() == "bytes":
                return _stat(response, int(size), ranges=True)
    except Status as error:
        if error.code not in (400, 403, 405, 501):  # what servers answer that know or allow GET only
            raise
    try:
        with _open(url, {"Range": "bytes=0-0"}, timeout) as response:
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            size = total if response.status == 206 else response.headers.get("Content-Length", "")
            if not size.isdigit():
                raise OSError("the server does not say how large it is")
            return _stat(response, int(size), ranges=response.status == 206)
    except Status as error:
        if error.code == 416:  # no first byte: the file is empty
            return Stat(0)
        raise


def get(url: str, begin: int, end: int, *, timeout: float = 30) -> bytes:
    """The bytes ``begin`` to ``end`` (without it), all of them. Raises OSError for less, or for another range."""
    if begin >= end:
        return b""
    with _open(url, {"Range": f"bytes={begin}-{end - 1}"}, timeout) as response:
        given = response.headers.get("Content-Range", "")
        if response.status != 206 or not given.startswith(f"bytes {begin}-"):
            raise OSError(f"asked for bytes {begin}-{end - 1}, the server gave {given or 'the whole file'}")
        return b"".join(_body(response, end - begin, timeout))


def whole(url: str, *, timeout: float = 30) -> Iterator[bytes]:
    """The whole file in chunks. Raises OSError, also where the connection ends before the stated length."""
    with _open(url, {}, timeout) as response:
        size = response.headers.get("Content-Length", "")
        yield from _body(response, int(size) if size.isdigit() else None, timeout)


def _body(response: http.client.HTTPResponse, size: int | None, timeout: float) -> Iterator[bytes]:
    began, got = time.monotonic(), 0
    while size is None or got < size:
        try:
            chunk = response.read1(CHUNK if size is None else min(CHUNK, size - got))
        except http.client.HTTPException as error:
            raise OSError(f"the connection broke after {got} bytes ({type(error).__name__})") from None
        if not chunk:
            break
        got += len(chunk)
        if time.monotonic() - began > timeout + got / SLOWEST:
            raise TimeoutError(f"too slow: {got} bytes in {time.monotonic() - began:.0f} s")
        yield chunk
    if size is not None and got != size:
        raise OSError(f"the connection ended after {got} of {size} bytes")


def _stat(response: http.client.HTTPResponse, size: int, *, ranges: bool) -> Stat:
    return Stat(size, response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), ranges)


@contextmanager
def _open(
    url: str, headers: Mapping[str, str], timeout: float, method: str = "GET"
) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(
        urlunsplit((parts.scheme, host, parts.path, parts.query, "")),
        headers={"User-Agent": "align", "Accept-Encoding": "identity", **headers},
        method=method,
    )
    if at:  # not sent on to where the server redirects
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise Status(error.code, str(error.reason)) from None
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    except http.client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from None
    with response:
        yield response
