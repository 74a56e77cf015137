"""Data workers of a Loader: where one dies or hangs, all are started anew at the same step."""

from __future__ import annotations

import copy
import logging
import mmap
import time
import warnings
from collections.abc import Callable
from typing import Any, final

import numpy as np
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling

from align.data.endings import describe_end, end_workers, kill_workers
from align.data.mixing.sources import Sources
from align.data.packing import pack, unpack
from align.data.pieces import Piece, Pieces, start_worker
from align.data.reading import Reading
from align.data.shards import Shards

log = logging.getLogger("align.data")

PERIOD = 1  # seconds between two looks at workers that bring nothing


class WorkerLost(ValueError):
    """A data worker that ended so often in one step that the run stops. The message names the shard that it read."""


@final
class Workers:
    """Processes that read and decode a rank's pieces.

    The order of samples is a function of the position. So new workers go on at the step that the consumer waits for,
    and bring the same batches to the bit. Pieces that were read ahead are read again.

    Args:
        pieces: the pieces of a whole pass.
        number: processes, at least 1.
        restarts: restarts for one step. More raise WorkerLost.
        seconds: workers that bring nothing for so long count as ended. 0: they may take any time.
    """

    def __init__(self, pieces: Pieces, number: int, *, restarts: int, seconds: float):
        self.pieces, self.number, self.restarts, self.seconds = pieces, number, restarts, seconds
        pieces.notes = np.frombuffer(mmap.mmap(-1, 16 * number), dtype=np.int64).reshape(number, 2)
        self._loader: DataLoader[Any] | None = None
        self._running: Any = None
        self._moved = False  # the workers began in the middle of the pass
        self._failures = (-1, 0)  # the step of the last failure, and how many it had

    def begin(self) -> None:
        """Begin a pass, with the workers that are there."""
        if self._moved:
            self.close()
        if self._loader is None:
            self.pieces.ready()
            self._start(self.pieces)
        else:
            self._iterate()

    def read(self, step: int, look: Callable[[], None]) -> list[Piece]:
        """Return the pieces of a step, in the order of the workers.

        look: called every second in which they bring nothing. It may raise. Raises the error of a reader, WorkerLost,
        and StopIteration at the end.
        """
        found: list[Piece] = []
        waited = 0
        while len(found) < self.number:
            try:
                piece = unpack(next(self._running))
            except (RuntimeError, OSError, EOFError) as error:
                waited += PERIOD * (str(error) == f"DataLoader timed out after {PERIOD} seconds")
                reason = self._find_end(len(found), waited, error)
                if reason is None:
                    self._look(look)
                    continue
                self._restart(step, *reason)
                found, waited = [], 0
                continue
            if isinstance(piece, Exception):
                raise piece
            found.append(piece)
            waited = 0
        return found

    def _look(self, look: Callable[[], None]) -> None:
        """Look. Where that raises, the workers end at once: they bring nothing, so nobody waits for their pieces."""
        try:
            look()
        except BaseException:
            running = getattr(self._loader, "_iterator", None)
            self._loader = self._running = None
            kill_workers(running)
            raise

    def close(self) -> None:
        """End the workers. A pass begins new ones."""
        running = getattr(self._loader, "_iterator", None)
        self._loader = self._running = None
        self._moved = False
        if running is not None:
            end_workers(running)

    def _start(self, pieces: Pieces) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")  # the user chose the number
            self._loader = DataLoader(
                pieces,
                batch_size=None,
                num_workers=self.number,
                persistent_workers=True,
                collate_fn=pack,
                worker_init_fn=start_worker,
                timeout=PERIOD,
            )
        self._iterate()

    def _iterate(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*suggested max number of worker.*")
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")  # Python 3.12, of every fork
            assert self._loader is not None  # the callers have made it
            self._running = iter(self._loader)
        if self._running._worker_pids_set:  # torch would raise a worker's death anywhere, in the middle of a step
            signal_handling._remove_worker_pids(id(self._running))  # pyright: ignore[reportPrivateImportUsage]
            self._running._worker_pids_set = False

    def _find_end(self, awaited: int, waited: float, error: Exception) -> tuple[int, str] | None:
        """Return a worker that has ended, and how. None: all work, and are slow. Raises the error of a reader."""
        timed_out = waited > 0
        for _ in range(1 if timed_out else 20):  # a process ends a moment after its connections
            for number, worker in enumerate(self._running._workers):
                if not worker.is_alive():
                    return number, describe_end(worker)
            if not timed_out:
                time.sleep(0.05)
        if not timed_out:
            raise error
        if self.seconds and waited >= self.seconds:
            pid = self._running._workers[awaited].pid
            return awaited, f"data worker {awaited} (pid {pid}) has brought nothing for {self.seconds:g} s"
        return None

    def _restart(self, step: int, worker: int, reason: str) -> None:
        """Start all workers anew at a step. Raises WorkerLost where that was done too often."""
        place = self._name_place(worker)
        last, n = self._failures
        self._failures = step, n = (step, n + 1 if last == step else 1)
        running = getattr(self._loader, "_iterator", None)
        self._loader = self._running = None
        kill_workers(running)
        shards = self.pieces.shards
        if shards.pipelines:
            raise WorkerLost(
                f"{reason} while it read {place}; {', '.join(shards.pipelines)} cannot go on in its order with a new "
                "worker: the same command goes on from the last checkpoint"
            )
        if n > self.restarts:
            raise WorkerLost(
                f"{reason} while it read {place}, {n} times in step {step + 1}: look at that sample (align shards "
                "check), at the memory of the machine, and at guard.data_seconds"
            )
        again = f"the workers start anew at step {step + 1} ({n} of {self.restarts})"
        log.warning("%s while it read %s; %s", reason, place, again)
        pieces = copy.copy(self.pieces)
        if pieces.steps is not None:
            pieces.steps -= (step - pieces.start_step) // pieces.stride
        pieces.start_step, self._moved = step, True
        self._start(pieces)

    def _name_place(self, worker: int) -> str:
        """Return the shard and the key of the sample that a worker was reading."""
        assert self.pieces.notes is not None  # set by __init__
        position, epoch = self.pieces.notes[worker].tolist()
        return name_place(self.pieces.shards, position - 1, epoch) if position else self.pieces.shards.name


def name_place(shards: Reading, position: int, epoch: int) -> str:
    """Return the shard and the key at a position, without reading anything."""
    if isinstance(shards, Sources):
        turn = shards.turn(position, epoch)
        return name_place(shards.sources[turn.source], turn.position, turn.epoch)
    if isinstance(shards, Shards):
        shard, i = shards.find(shards.number(position, epoch))
        return f"{shards.urls[shard]}: {shards.indexes[shard].keys[i]}"
    return f"position {position} of {shards.name}"
