"""Ends of a DataLoader's worker processes: how one ended, and how all are ended."""

from __future__ import annotations

import signal
import threading
from typing import Any

PATIENCE = 2.0  # seconds that workers have at the end, for the piece that they are at


def describe_end(worker: Any) -> str:
    """Return how a worker process ended: by a signal, or with an exit code."""
    code = worker.exitcode or 0
    end = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"a data worker (pid {worker.pid}) {end}"


def end_workers(running: Any) -> None:
    """End the workers of a DataLoader's iterator, each after the piece that it is at, or at once where one is dead."""
    if all(worker.is_alive() for worker in running._workers):
        ending = threading.Thread(target=running._shutdown_workers, daemon=True)
        ending.start()
        ending.join(PATIENCE)
        if not ending.is_alive():
            return
        _kill(running._workers)
        ending.join(PATIENCE)  # a stopped worker may have held a lock that this thread waits for
    kill_workers(running)


def kill_workers(running: Any) -> None:
    """End the workers of a DataLoader's iterator at once. Its own end waits for locks that a dead worker may hold."""
    running._shutdown = True
    _kill(running._workers)
    for worker in running._workers:
        worker.join()
    for queue in (*running._index_queues, running._worker_result_queue):
        queue.cancel_join_thread()
        queue.close()


def _kill(workers: list[Any]) -> None:
    for worker in workers:
        worker.kill()
