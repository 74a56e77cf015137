"""The threads that read an index and files, and the errors that become answers there."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

from align.search.finder import Unavailable
from align.serve.refusal import Refusal

SEARCHERS = 4  # threads
TRIES = 5
PAUSE = 0.1  # seconds
T = TypeVar("T")
log = logging.getLogger("align.serve")


@final
class Readers:
    """A pool of threads for blocking work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(SEARCHERS, "search")

    def close(self) -> None:
        """End the threads after their work."""
        self._threads.shutdown(wait=False)

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work.

        An error of the search's (ValueError) becomes a 422, one of the disk's or of a server of vectors a 503.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ValueError as error:
            damaged = " damaged" in str(error)
            raise Refusal(503 if damaged else 422, hide_paths(str(error))) from None
        except Unavailable as error:
            log.error("a search cannot be answered: %s", error)
            said = "the server that holds this index's vectors does not answer; ask again later"
            raise Refusal(503, said, code="backend_unavailable", retry=5) from None
        except (ImportError, OSError) as error:  # ImportError: of an approximate search that another machine has made
            log.error("the index cannot be read: %s", error)
            raise Refusal(503, "the index cannot be read; the server's log says why", retry=5) from None


def hide_paths(text: str) -> str:
    """Return a message with the names of files and folders in place of their paths.

    >>> hide_paths("/home/me/idx/segments/1.x is damaged")
    '1.x is damaged'
    """
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)", r"\1", text)


def repeat(work: Callable[[], T]) -> T:
    """Return work's value, for work that meets a writer.

    It is done again where an item that it found has been deleted meanwhile (KeyError), and in the moment in which
    another index takes the folder's place (OSError).
    """
    for _ in range(TRIES - 1):
        try:
            return work()
        except KeyError:
            continue
        except Unavailable:  # its client has waited long enough
            raise
        except OSError:
            time.sleep(PAUSE)
    return work()
