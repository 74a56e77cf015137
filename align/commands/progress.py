"""Progress of a long command on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final


@final
class Said:
    """Progress as the work calls it: ``say(done, total)``, and ``say.announce("image blur@3")`` before a part of it."""

    def __init__(self, show: Callable[[str, int, int], None], title: str):
        self._show, self._title, self._words = show, title, ""

    def __call__(self, done: int, total: int) -> None:
        self._show(f"{self._title} ({self._words})" if self._words else self._title, done, total)

    def announce(self, words: str) -> None:
        """Add a few words to the title, until the next ones."""
        self._words = words


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Said]:
    """Give the block a function ``say(done, total)``. It prints a line every 15 seconds where there is no terminal.

    quiet: say nothing.
    """
    if quiet:
        yield Said(lambda title, done, total: None, title)
        return
    if not sys.stderr.isatty():
        started = said = time.monotonic()
        last = ("", -1, -1)

        def line(title: str, done: int, total: int) -> None:
            nonlocal said, last
            now = time.monotonic()
            if now - said > 15 or (done >= total and said > started and (title, done, total) != last):
                print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)
                said, last = now, (title, done, total)

        yield Said(line, title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    parts = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn()]
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, said="")

        def show(title: str, done: int, total: int) -> None:
            bar.update(task, description=title, completed=done, total=total, said=f"{done}/{total}")

        yield Said(show, title)
