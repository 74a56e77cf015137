"""An endless reading of a user's pipeline, which begins again when it runs out."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from torch.utils.data import get_worker_info

MARKERS = 1_000_000  # empty dicts in a row, after which no sample is waited for any more


@final
class Restarting:
    """The samples of the pipeline that ``make`` returns, without end. name: its name in messages.

    Nothing is made before the first ``next``.
    """

    def __init__(self, make: Callable[[], Iterable[Any]], name: str):
        self.make, self.name = make, name
        self._rank, self._world = 0, 1
        self._made: Iterable[Any] | None = None
        self._running: Iterator[Any] | None = None
        self._given = 0  # samples since the pipeline began

    @property
    def reader(self) -> str:
        """The rank and worker that read, as text."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return f"rank {self._rank} of {self._world}, worker {worker} of {workers}"

    def begin(self, rank: int, world: int) -> None:
        """Begin anew, for this rank of ``world``."""
        self.close()
        self._rank, self._world = rank, world

    def next(self) -> tuple[Any, int]:
        """Return the next sample, and the number of restarts before it. Empty dicts are passed over.

        Raises ValueError for a pipeline that fails or that yields nothing to this reader.
        """
        again = 0
        try:
            with reader_environment(self._rank, self._world):
                while True:
                    if self._running is None:
                        self._start()
                    assert self._running is not None
                    for markers, found in enumerate(self._running, 1):
                        if not isinstance(found, Mapping) or found:
                            self._given += 1
                            return found, again
                        if markers == MARKERS:
                            raise ValueError(f"{MARKERS:,} empty dicts in a row")
                    if not self._given:
                        break
                    self._running, again = None, again + 1
        except Exception as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{self.name} failed ({self.reader}): {type(error).__name__}: {text}") from error
        raise ValueError(
            f"{self.name} yields no sample to {self.reader}"
            f"{', when it begins again' * (again > 0)}: are there fewer shards than ranks x workers?"
        )

    def close(self) -> None:
        """End the pipeline. ``next`` begins it anew."""
        running, self._running, self._made = self._running, None, None
        if isinstance(running, Generator):
            running.close()

    def _start(self) -> None:
        if self._made is None or isinstance(self._made, Iterator):  # an iterator is spent
            self._made = self.make()
        self._running, self._given = iter(self._made), 0


@contextmanager
def reader_environment(rank: int, world: int) -> Iterator[None]:
    """Set RANK and WORLD_SIZE to those of the reader for a block. webdataset's splitters look there first."""
    values = {"RANK": str(rank), "WORLD_SIZE": str(world)}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
