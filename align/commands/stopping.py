"""SIGINT and SIGTERM while an index is made: the embedded samples are kept, and the next build goes on from them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from align.commands.errors import Refused


@contextmanager
def stopping(folder: Path) -> Iterator[None]:
    """End the block at SIGINT and SIGTERM with codes 130 and 143, and say that the embedded samples are kept."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    except Stopped as stopped:
        from align.search.building.build import real_path
        from align.search.building.staging import count_staged

        n, name = count_staged(real_path(folder)), signal.Signals(stopped.number).name
        kept = f"{n} embedded samples are kept beside {folder}, and the same command goes on from them"
        said = kept if n else f"nothing was embedded yet, and {folder} is as it was"
        raise Refused(f"stopped by {name}: {said}", 128 + stopped.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stopped(BaseException):
    """A signal's end of the command."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number
