"""Worker processes whose results come back in the order of the items, as from a single process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 3  # chunks that each worker may be ahead: their results wait in memory


def run_in_order(
    work: Callable[[Any, T], Any], state: Any, items: Iterable[T], workers: int, chunk: int = 4
) -> Generator[tuple[T, Any], None, None]:
    """Yield (item, work(state, item)) for each item, in the order of the items.

    work: a function of a module. state: sent to each process one time. workers: number of processes, 0 to work in this
    one. An exception of ``work`` is raised here, at its item's turn.

    Raises ChildProcessError where a process dies. The processes end when this one does, however that happens.
    """
    if workers == 0:
        for item in items:
            yield item, work(state, item)
        return
    kind = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    stream = iter(items)
    waiting: deque[tuple[list[T], Future[list[Any]]]] = deque()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(kind), initializer=_start, initargs=(work, state))
    try:
        while True:
            while len(waiting) < AHEAD * workers and (some := list(islice(stream, chunk))):
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")  # Python 3.12
                    waiting.append((some, pool.submit(_run, some)))
            if not waiting:
                return
            some, future = waiting.popleft()
            yield from zip(some, future.result(), strict=True)
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process ended, killed or out of memory: run the same again, with fewer workers if memory is "
            "short; shards that were finished are kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_work: Callable[[Any, Any], Any]
_state: Any


def _start(work: Callable[[Any, Any], Any], state: Any) -> None:
    import torch

    global _work, _state
    _work, _state = work, state
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End this worker with the main process, which cannot tell its workers when it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(items: list[Any]) -> list[Any]:
    return [_work(_state, item) for item in items]
