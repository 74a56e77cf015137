"""A pause after a request that a server left without an answer: other requests fail at once meanwhile."""

from __future__ import annotations

import threading
import time
from typing import final

from align.search.finder import Unavailable

LONG = 1.0  # seconds after which a failed request counts as one that the server left without an answer
PAUSE = 5.0  # seconds


@final
class Pause:
    """A circuit breaker of one server.

    A server that is gone refuses a connection in a millisecond. One that hangs keeps each request for its whole
    patience. So after such a request others fail at once for some seconds. Then one request at a time tries again.

    failed: True where the last request met a server that did not answer.
    """

    def __init__(self, long: float = LONG, pause: float = PAUSE):
        self._long, self._pause = long, pause
        self._said = ""
        self._until = 0.0
        self.failed = False
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise Unavailable, with the line of the request that failed, while requests fail at once."""
        with self._lock:
            now = time.monotonic()
            if self._said and now < self._until:
                raise Unavailable(self._said)
            self._until = now + self._pause  # this request tries, others do not wait with it

    def note_answer(self) -> None:
        """Note an answer, with which the pause ends."""
        self._said, self.failed = "", False

    def note_failure(self, begun: float, said: str) -> None:
        """Note a request that failed. begun: its beginning by ``time.monotonic``. said: its line."""
        with self._lock:
            now, self.failed = time.monotonic(), True
            self._said, self._until = (said if now - begun >= self._long else ""), now + self._pause
