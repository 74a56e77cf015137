"""The two clients: the hostile one, which sends bytes and does not wait for anyone, and the good one."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from hostile.pictures import small
from hostile.request import SILENT, Hostile, uri

PATIENCE = 20.0  # seconds after which a request counts as unanswered
KEPT = 1 << 20  # bytes of an answer that are kept
STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})", re.MULTILINE)
Address = tuple[str, int]


class Answer(NamedTuple):
    """An answer. statuses: of all responses on the connection, none where it was closed in silence."""

    statuses: tuple[int, ...]
    content: bytes
    seconds: float
    ended: bool


def send(address: Address, hostile: Hostile) -> Answer:
    """Send a request, and read until the server closes. A thread sends, as the answer may come early."""
    parts = iter(hostile.parts())
    first = next(parts, b"")  # a large body is made before the server's clock runs
    start = time.perf_counter()
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        writer = threading.Thread(target=_write, args=(sock, chain([first], parts), hostile.pause), daemon=True)
        writer.start()
        if hostile.leaves:
            writer.join(PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
            return Answer((), b"", time.perf_counter() - start, True)
        found, ended = _read(sock)
        sock.shutdown(socket.SHUT_RDWR) if not ended else None
    writer.join(PATIENCE)
    statuses = tuple(int(one) for one in STATUS.findall(found))
    return Answer(tuple(one for one in statuses if one != 100), found, time.perf_counter() - start, ended)


def judge(hostile: Hostile, answer: Answer, secret: bytes) -> str:
    """Return what is wrong with an answer, "" for a right one."""
    if not answer.ended:
        return f"no end after {PATIENCE:g} s: {answer.content[:80]!r}"
    if secret in answer.content or b"root:x:" in answer.content:
        return "the answer has a secret"
    if b"Traceback" in answer.content:
        return "the answer has a trace"
    if hostile.leaves:
        return ""
    wrong = [one for one in answer.statuses or (SILENT,) if one not in hostile.fits]
    return f"{wrong[0] or 'silence'}, not {hostile.fits[:4]}: {answer.content[-300:]!r}" if wrong else ""


class Good:
    """A client who asks with a text and a picture, and knows the answer."""

    BODY = json.dumps(
        {"query": "red", "parts": [{"modality": "image", "data": uri(small("PNG"))}], "of": "image", "k": 3}
    )

    def __init__(self, address: Address):
        self._connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        self.right = self._ask()

    def wrong(self) -> str:
        """Ask again, and return what is wrong, "" where the answer is the first one."""
        try:
            found = self._ask()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            return f"the next good request failed: {error!r}"
        return "" if found == self.right else f"the next good request got {str(found)[:200]}"

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _ask(self) -> Any:
        self._connection.request("POST", "/v1/search", self.BODY, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = json.loads(response.read())
        return response.status, [(hit["id"], hit["score"]) for hit in content.get("hits", ())] or content


def _write(sock: socket.socket, parts: Iterable[bytes], pause: float) -> None:
    try:
        for part in parts:
            sock.sendall(part)
            if pause:
                time.sleep(pause)
    except OSError:  # the server has closed
        pass


def _read(sock: socket.socket) -> tuple[bytes, bool]:
    """Return the beginning of what comes, and True where its end came."""
    found, end = bytearray(), time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end and (part := sock.recv(1 << 16)):
            found += part[: KEPT - len(found)]
    except TimeoutError:
        return bytes(found), False
    except OSError:  # reset, after the answer or in place of it
        pass
    return bytes(found), time.monotonic() < end
