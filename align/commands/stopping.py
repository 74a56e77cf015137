"""SIGINT and SIGTERM in a long command: it ends with their exit codes, and says which work is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.commands.errors import Refused


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """End the making of an index at SIGINT and SIGTERM, and say that the embedded samples are kept."""

    def describe() -> str:
        from align.search.building.build import real_path
        from align.search.building.staging import count_staged

        n = count_staged(real_path(folder))
        kept = f"{n} embedded samples are kept beside {folder}, and the same command goes on from them"
        return kept if n else f"nothing was embedded yet, and {folder} is as it was"

    with ending(describe):
        yield


@contextmanager
def making_search(folder: Path, name: str) -> Iterator[None]:
    """End the making of an approximate search at SIGINT and SIGTERM, and say whether it is used.

    name: see ``align index backend``.
    """
    before = _mark_notes(folder)

    def describe() -> str:
        if _mark_notes(folder) != before:
            return f"{folder} is searched by {name}, whose recall is not measured; the same command measures it"
        sent = "; rows that were sent stay there, and the same command goes on" if "://" in name else ""
        return f"the searches of {folder} are as they were{sent}"

    with ending(describe):
        yield


def _mark_notes(folder: Path) -> tuple[int, int] | None:
    """Return a mark of the notes of an index, which is another one when they are written again."""
    from align.search.ann.notes import path_of_notes

    try:
        stat = path_of_notes(folder).stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


@contextmanager
def ending(describe: Callable[[], str]) -> Iterator[None]:
    """End the block at SIGINT and SIGTERM with codes 130 and 143.

    describe: returns a line about the work that is kept, for the message.
    """

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Stopped as stopped:
        name = signal.Signals(stopped.number).name
        raise Refused(f"stopped by {name}: {describe()}", 128 + stopped.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(BaseException):
    """A signal's end of the command."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
