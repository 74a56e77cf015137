"""Bodies of requests, read within bounds of size, of time and of the memory of all together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from starlette.datastructures import Headers
from starlette.types import Receive

from align.serve.limits import Limits
from align.serve.refusal import Refusal, shorten

FORM = "application/x-www-form-urlencoded"
THROWN_AWAY = 8  # bodies' bound times this: a client that sends at most so much hears why it was refused


@final
class Bodies:
    """The bodies that are in memory now."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.size = 0

    @contextmanager
    def hold(self) -> Iterator[Body]:
        """Count a body's bytes until its request has ended."""
        body = Body(self)
        try:
            yield body
        finally:
            self.size -= body.size


@final
class Body:
    """A body that is being read."""

    def __init__(self, all: Bodies):
        self._all = all
        self._most = all.limits.body
        self.size = 0

    async def read(self, headers: Headers, receive: Receive) -> bytes:
        """Return the whole body.

        Raises Refusal: 400 for a length that is no number or a client that leaves, 408 for a slow one, 413 for a large
        one, 415 for a compressed one, 429 where the bodies of all requests take too much memory.
        """
        limits, parts, over = self._all.limits, [], 0
        end = time.monotonic() + limits.body_seconds
        if headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
            self._most = min(limits.form, limits.body)  # to read its escapes takes eighty times its bytes
        codings = ",".join(headers.getlist("content-encoding"))
        if any(coding.strip().lower() not in ("", "identity") for coding in codings.split(",")):
            raise Refusal(415, f"the body's Content-Encoding is {shorten(codings)}; send it uncompressed")
        stated = headers.get("content-length", "0")
        if not stated.isdecimal():
            raise Refusal(400, "Content-Length is no number")
        if int(stated[:20]) > THROWN_AWAY * limits.body:
            raise self._large()
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise Refusal(408, f"the body did not arrive in {limits.body_seconds:g} s") from None
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the client left")
            part = message.get("body", b"")
            if over or self.size + len(part) > self._most or int(stated[:20]) > self._most:
                parts.clear()
                over += len(part) or 1
                if over > THROWN_AWAY * limits.body:
                    raise self._large()
            else:
                self._take(len(part))
                parts.append(part)
            if not message.get("more_body", False):
                break
        if over:
            raise self._large()
        return b"".join(parts)

    def _take(self, size: int) -> None:
        if self._all.size + size > self._all.limits.bodies:
            raise Refusal(429, "the server holds as many uploads as it can; ask again in a second", retry=1)
        self.size += size
        self._all.size += size

    def _large(self) -> Refusal:
        return Refusal(413, f"the request is too large; at most {self._most >> 20} MiB are read")
