"""The retry policy of everything that is read from a network: when to ask again, after which pause, how often.

An answer that cannot change is final: the statuses FINAL, and the errors that name a missing, forbidden or impossible
file. Everything else is asked for again, ATTEMPTS times in all. The pause before an attempt doubles from PAUSE seconds
and is jittered (backoff), so that many workers do not come back at once. Where the server named a later time
(``Retry-After``), the pause lasts until then, but LONGEST seconds at most.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import TypeVar, final

ATTEMPTS = 5
PAUSE = 0.5  # seconds before the second attempt, 7.5 before all, jittered
LONGEST = 60.0  # seconds
FINAL = (401, 403, 404, 410, 416)
MISTAKES = (TypeError, AttributeError, NameError)  # of the code: they are raised as they are

T = TypeVar("T")


@final
class GaveUp(Exception):
    """The end of all attempts: ``error`` is the last failure."""

    def __init__(self, error: Exception, attempts: int):
        super().__init__(str(error) or type(error).__name__)
        self.error, self.attempts = error, attempts

    @property
    def missing(self) -> bool:
        """True where the server says that there is no such file."""
        return getattr(self.error, "code", None) in (404, 410) or isinstance(self.error, FileNotFoundError)


def retry(ask: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """Return the result of ``ask``, called up to ``attempts`` times.

    Any Exception counts as a failure: the file systems behind fsspec raise errors without a common class. An error's
    ``code`` is its HTTP status, its ``after`` the seconds that the server asked to wait. Raises GaveUp.
    """
    jitter = random.Random(f"{os.getpid()} {time.monotonic_ns()}")
    attempt = 1
    while True:
        try:
            return ask()
        except MISTAKES:
            raise
        except Exception as error:
            if attempt >= attempts or _is_final(error):
                raise GaveUp(error, attempt) from error
            pause = PAUSE * 2 ** (attempt - 1) * jitter.uniform(0.5, 1.5)
            pause = max(pause, min(LONGEST, getattr(error, "after", 0.0)))
        time.sleep(pause)
        attempt += 1


def _is_final(error: Exception) -> bool:
    never = isinstance(error, FileNotFoundError | PermissionError | NotImplementedError | ValueError)
    return never or getattr(error, "code", None) in FINAL
