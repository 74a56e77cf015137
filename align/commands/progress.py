"""Progress of a long command on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Give the block a function ``say(done, total)``. It prints a line every 15 seconds where there is no terminal."""
    if not sys.stderr.isatty():
        started = said = time.monotonic()
        last = (-1, -1)

        def line(done: int, total: int) -> None:
            nonlocal said, last
            now = time.monotonic()
            if now - said > 15 or (done >= total and said > started and (done, total) != last):
                print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)
                said, last = now, (done, total)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    parts = [TextColumn(title), BarColumn(), TextColumn("{task.fields[said]}"), TimeRemainingColumn()]
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, said="")
        yield lambda done, total: bar.update(task, completed=done, total=total, said=f"{done}/{total}")
