"""A connection to a Qdrant server: over HTTP, by qdrant-client."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from align.extras import has_part, pip_install
from align.search.finder import Stale, Unavailable
from align.search.remote.pause import Pause


@final
class QdrantConnection:
    """A connection that is made for the first request. Several threads may ask by it.

    The key is that of the environment: ALIGN_QDRANT_KEY.

    patience: seconds for one request. client: a QdrantClient in place of one for the URL.
    """

    def __init__(self, url: str, patience: float, client: Any = None):
        if not has_part("qdrant_client", "QdrantClient"):
            raise ImportError(f"Qdrant needs qdrant-client: {pip_install('qdrant')}")
        self.url, self.patience = url, patience
        self.where = f"Qdrant at {url}"
        self.pause = Pause()
        self._client = client
        self._lock = threading.Lock()

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """Yield qdrant-client's client. An error of it becomes one line. Raises as ``Store`` says."""
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

        self.pause.check()
        begun = time.monotonic()
        try:
            yield self.open()
            self.pause.note_answer()
        except UnexpectedResponse as error:
            status = error.status_code or 0
            if status == 404:
                self.pause.note_answer()
                raise Stale(f"{self.where}: a mirror is gone") from None
            if status in (401, 403):
                self.pause.note_answer()
                raise PermissionError(f"{self.where} refuses the key; set ALIGN_QDRANT_KEY") from None
            raise self._miss(begun, error) from None
        except (ApiException, OSError) as error:
            raise self._miss(begun, error) from None
        except ValueError as error:  # of the client in memory
            if "not found" not in str(error):
                raise
            raise Stale(f"{self.where}: a mirror is gone") from None

    def open(self) -> Any:
        """Return the client, which is made where there is none."""
        from qdrant_client import QdrantClient

        with self._lock:
            if self._client is None:
                key = os.environ.get("ALIGN_QDRANT_KEY") or None
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # a key over http, which the user has chosen
                    self._client = QdrantClient(
                        url=self.url, port=None, api_key=key, timeout=int(self.patience), check_compatibility=False
                    )
            return self._client

    def _miss(self, begun: float, error: Exception) -> Unavailable:
        said = f"{self.where} does not answer: {_say(error)}"
        self.pause.note_failure(begun, said)
        return Unavailable(said)


def _say(error: Exception) -> str:
    """Return an error of the client in a few words."""
    return " ".join(str(error).split())[:200] or type(error).__name__
