"""Pieces of batches: one process's share of each step's positions, with the bad in them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from traceback import format_exception
from types import FrameType
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from align.data.bad import Bad
from align.data.collate import piece
from align.data.kept import Kept
from align.data.mixing.direct import is_direct, read_direct
from align.data.mixing.overrides import Decoding
from align.data.opening import Opening, open_sample
from align.data.reading import Reading
from align.values import Batch, Sample

if TYPE_CHECKING:
    from align.preprocess import Preprocess

Piece = tuple[Batch, list[Bad]]


@final
class Pieces(IterableDataset[Piece | Exception]):
    """A worker's piece of every step. Worker w of a rank reads the positions rank + w · world modulo all readers."""

    def __init__(
        self,
        shards: Reading,
        preprocess: dict[str, Preprocess],
        batch: int,
        train: bool,
        seed: int,
        rank: int,
        world: int,
        start_step: int,
        steps: int | None,
        per_epoch: int,
        decodings: Mapping[str, Decoding] | None,
        kept: Kept | None = None,
        stride: int = 1,
        views: Mapping[str, int] | None = None,
    ):
        self.shards, self.preprocess, self.batch, self.train, self.seed = shards, preprocess, batch, train, seed
        self.rank, self.world, self.start_step, self.steps = rank, world, start_step, steps
        self.per_epoch, self.decodings, self.kept, self.stride = per_epoch, decodings, kept, stride
        self.views = views
        self._usual = Decoding(shards.members, preprocess)
        self.direct = is_direct(shards, preprocess)
        self.notes: np.ndarray | None = None  # (workers, 2) of each worker: the position it reads + 1, and its epoch

    def ready(self) -> None:
        """Load, before the fork, everything that each worker would load by itself."""
        for readers in (self.preprocess, *(each.preprocess for each in (self.decodings or {}).values())):
            for reader in readers.values():
                reader.ready()

    def __iter__(self) -> Iterator[Piece | Exception]:
        """Yield the pieces. A worker's OSError or ValueError comes as a value, which escapes DataLoader's rewording."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        self.shards.begin(self.rank, self.world)
        step = self.start_step
        while self.steps is None or step < self.start_step + self.steps * self.stride:
            try:
                yield self._piece(step, worker, workers)
            except (OSError, ValueError) as error:
                if info is None:
                    raise
                error.add_note("".join(format_exception(error)))
                yield error
                return
            step += self.stride

    def _piece(self, step: int, worker: int, workers: int) -> Piece:
        epoch, within = divmod(step, self.per_epoch)
        first, end = within * self.batch, min((within + 1) * self.batch, len(self.shards))
        readers = self.world * workers
        positions = range(first + (self.rank + self.world * worker - first) % readers, end, readers)
        if self.direct:
            self._note(worker, first, epoch)
            return read_direct(self.shards, positions, epoch, self.preprocess)
        read = []
        for p in positions:
            self._note(worker, p, epoch)
            read.append(self._read(p, epoch, readers))
        unread = [bad._replace(position=p) for p, (_, some) in zip(positions, read, strict=True) for bad in some]
        part, bad = piece(
            [sample for sample, _ in read],
            self.preprocess,
            positions=positions,
            train=self.train,
            seed=self.seed,
            epoch=epoch,
            members=self.shards.members,
            decodings=self.decodings,
            views=self.views,
        )
        return part, unread + bad

    def _note(self, worker: int, position: int, epoch: int) -> None:
        """Note the position that this worker reads, for the message of its end."""
        if self.notes is not None:
            self.notes[worker] = position + 1, epoch

    def _read(self, position: int, epoch: int, readers: int) -> tuple[Sample | Opening, Sequence[Bad]]:
        """Return the sample at a position, opened where it is kept, and the faults of its reading."""
        modalities, kept = frozenset(self.preprocess), self.kept
        number = -1 if kept is None else self.shards.number(position, epoch)
        if kept is None or number < 0:
            return self.shards.read(position, epoch, modalities, stride=readers)
        opening = kept.get(number)
        if opening is None:  # of the last few samples no neighbours are fetched ahead
            sample, bad = self.shards.read(position, epoch, modalities, stride=0 if kept.most else readers)
            if kept.off:
                return sample, bad
            decoding = (self.decodings or {}).get(sample.get("__source__", ""), self._usual)
            opening = open_sample(sample, decoding, keep=True, unread=bad)
            kept.put(number, opening)
        return opening, opening.unread


def start_worker(worker: int) -> None:
    """Set up a worker: one thread, and signals to the group (Ctrl-C, SIGTERM) are left to the main process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _wait_for_the_second)
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # SLURM sends it to every process of a step


def _wait_for_the_second(number: int, frame: FrameType | None) -> None:
    """Ignore the first SIGTERM. The main process wants batches until its step is saved, and ends its workers."""
    signal.signal(number, signal.SIG_DFL)
