"""A hostile request as raw bytes, so that it may break HTTP itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

REFUSED = tuple(range(400, 500))
ANSWERED = (200, 206, 303, 304)
EITHER = (*ANSWERED, *REFUSED)
SILENT = 0  # the connection was closed without an answer
FORM = "multipart/form-data; boundary=b"


@dataclass(frozen=True)
class Hostile:
    """A request of the corpus.

    parts: returns the bytes in pieces, which may be endless. fits: statuses that are right, ``SILENT`` among them.
    slow: a deadline of the server ends it. pause: seconds between two pieces. leaves: the client goes without reading.
    """

    kind: str
    name: str
    parts: Callable[[], Iterable[bytes]]
    fits: tuple[int, ...] = REFUSED
    slow: bool = False
    pause: float = 0.0
    leaves: bool = False

    def but(self, **changes: Any) -> Hostile:
        """Return it with some fields changed."""
        return replace(self, **changes)


def raw(kind: str, name: str, *parts: bytes, fits: tuple[int, ...] = REFUSED) -> Hostile:
    """Return a request of stated bytes."""
    return Hostile(kind, name, lambda: parts, fits)


def head(target: str, *headers: str, method: str = "GET", host: str = "localhost") -> bytes:
    """Return a request's head that asks for the connection's end. Characters above 127 go as UTF-8."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def get(kind: str, name: str, target: str, *headers: str, fits: tuple[int, ...] = REFUSED, **more: str) -> Hostile:
    """Return a GET."""
    return raw(kind, name, head(target, *headers, **more), fits=fits)


def post(
    kind: str,
    name: str,
    target: str,
    body: Callable[[], bytes] | bytes,
    type: str = "application/json",
    *headers: str,
    fits: tuple[int, ...] = REFUSED,
) -> Hostile:
    """Return a POST. A large body is made when it is sent."""

    def parts() -> Iterable[bytes]:
        content = body if isinstance(body, bytes) else body()
        typed = [f"Content-Type: {type}"] if type else []
        yield head(target, *typed, f"Content-Length: {len(content)}", *headers, method="POST")
        yield content

    return Hostile(kind, name, parts, fits)


def ask(kind: str, name: str, target: str, body: Any, *, fits: tuple[int, ...] = REFUSED) -> Hostile:
    """Return a POST of JSON."""
    return post(kind, name, target, lambda: json.dumps(body).encode(), fits=fits)


def uri(data: bytes, name: str = "", type: str = "application/octet-stream") -> str:
    """Return a data URI."""
    return f"data:{type};name={name};base64,{base64.b64encode(data).decode()}"


def file(
    kind: str, name: str, modality: str, data: Callable[[], bytes] | bytes, suffix: str = "", *, fits=REFUSED
) -> Hostile:
    """Return a request that embeds a file."""

    def body() -> bytes:
        content = data if isinstance(data, bytes) else data()
        return json.dumps({"input": {modality: uri(content, f"x.{suffix}" if suffix else "")}}).encode()

    return post(kind, name, "/v1/embeddings", body, fits=fits)


def part(disposition: str, content: bytes, *headers: str) -> bytes:
    """Return a part of a form whose boundary is b."""
    lines = ["--b", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + content + b"\r\n"
