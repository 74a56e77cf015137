"""A connection to a Milvus server: over gRPC, by pymilvus."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, final

from align.extras import has_part, pip_install
from align.search.finder import Stale, Unavailable
from align.search.remote.pause import Pause

GONE = 100  # code of the server: no such collection
FORBIDDEN = ("UNAUTHENTICATED", "PERMISSION_DENIED", "auth check failure", "permission deny")
OPTIONS = {
    "grpc.use_local_subchannel_pool": 1,  # a new client does not wait for the pause of one that failed
    "grpc.keepalive_time_ms": 600_000,  # servers refuse clients that ping more often than every 5 minutes
}


@final
class MilvusConnection:
    """A connection that is made for the first request, and anew after an error. Several threads may ask by it.

    The token is that of the environment: ALIGN_MILVUS_TOKEN.

    patience: seconds for one request.
    """

    def __init__(self, url: str, patience: float):
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC, which reads it at import, writes to stderr by itself
        if not has_part("pymilvus", "MilvusClient"):
            raise ImportError(f"Milvus needs pymilvus: {pip_install('milvus')}")
        self.url, self.patience = url, patience
        self.where = f"Milvus at {url}"
        self.pause = Pause()
        self._client: Any = None
        self._missed: tuple[float, Exception] | None = None  # the end of the last attempt that failed, and its error
        self._left: list[tuple[float, Any]] = []  # clients after an error, by which other threads may still ask
        self._lock = threading.Lock()

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Yield pymilvus's client. An error of it becomes one line, and the next request makes a new client.

        Raises as ``Store`` says.
        """
        self.pause.check()
        begun, client = time.monotonic(), None
        try:
            client = self.open()
            yield client
            self.pause.note_answer()
        except list_errors() as error:
            if getattr(error, "code", None) == GONE:
                self.pause.note_answer()
                raise Stale(f"{self.where}: a mirror is gone") from None
            self._leave(client)
            text = _say(error)
            if any(word in text for word in FORBIDDEN):
                self.pause.note_answer()
                raise PermissionError(f"{self.where} refuses the token; set ALIGN_MILVUS_TOKEN") from None
            said = f"{self.where} does not answer: {text}"
            self.pause.note_failure(begun, said)
            raise Unavailable(said) from None

    def open(self) -> Any:
        """Return the client, which is made where there is none. Threads that wait for it share its error."""
        begun = time.monotonic()
        with self._lock:
            if self._client is None:
                if self._missed is not None and self._missed[0] > begun:
                    raise self._missed[1]
                self._close_left()
                try:
                    self._client = self._make()
                except list_errors() as error:
                    self._missed = time.monotonic(), error
                    raise
            return self._client

    def _make(self) -> Any:
        from pymilvus import MilvusClient

        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # its errors are raised and logged; one is enough
        token = os.environ.get("ALIGN_MILVUS_TOKEN", "")
        return MilvusClient(uri=self.url, token=token, timeout=self.patience, dedicated=True, grpc_options=OPTIONS)

    def _leave(self, client: Any) -> None:
        with self._lock:
            if client is not None and client is self._client:
                self._client = None
                self._left.append((time.monotonic(), client))

    def _close_left(self) -> None:
        """Close the clients whose last request has ended by now. pymilvus keeps each one until then."""
        old = [one for one in self._left if time.monotonic() - one[0] > 2 * self.patience]
        self._left = [one for one in self._left if one not in old]
        for _, client in old:
            with suppress(Exception):
                client.close()


def list_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the client."""
    import grpc
    from pymilvus.exceptions import MilvusException

    return MilvusException, grpc.RpcError, grpc.FutureTimeoutError


def _say(error: Exception) -> str:
    """Return an error of the client in a few words."""
    details = getattr(error, "details", None)
    text = str(details() if callable(details) else getattr(error, "message", "") or error)
    return " ".join(text.split())[:200] or type(error).__name__
