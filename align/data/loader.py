"""Whole batches of this rank, the same for any number of workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, final

import torch

from align.data.arguments import check_numbers, check_source
from align.data.bad import ASKED, FAILED, Bad, Budget
from align.data.join import join
from align.data.kept import Kept
from align.data.ledger import Ledger
from align.data.mixing.direct import is_direct
from align.data.mixing.sources import Sources
from align.data.pieces import Piece, Pieces
from align.data.reading import Reading, check_by_position, warn_of_double_reads, warn_of_pipelines
from align.data.workers import Workers
from align.values import Batch

if TYPE_CHECKING:
    from align.preprocess import Preprocess


class StopAsked(Exception):
    """End of a pass because ``stops`` said so while the workers brought nothing, on all ranks in the same step."""


@final
class Loader:
    """Batches of a rank: global step s has the positions s·batch + rank, + world, … of its epoch.

    With ``train`` it is one endless stream over the epochs. An epoch has len(shards) // batch steps, the samples left
    over are dropped (another order brings them back), and workers live on across the border. Without ``train`` it is
    one pass over every position of epoch 0. The last batch is then smaller, and every rank has equally many steps.
    Either may be iterated again.

    Args:
        shards: the source of samples: ``Shards``, ``Resampled``, ``Columns``, a ``Mixture`` of the same batch, or a
            ``Concat``, and for training also a ``Pipeline``.
        preprocess: modality -> its preprocess. Members of other modalities are not read.
        batch: positions in a step, over all ranks: a multiple of ``world``.
        workers: processes. 0 reads in this one. Worker k decodes this rank's positions k, k + workers, …
        seed: of the augmentation.
        start_step: the first step, for a resumed run.
        steps: the steps of one iteration. None is endless in training, the whole pass otherwise.
        pin_memory: hand over pinned batches (only where there is a GPU).
        share: this rank's bad of a step -> all ranks' (``align.data.ledger.everyones``). The ranks then count the same
            and stop in the same step, also for the error of one reader. None: each rank counts and stops by itself.
        budget: the budget of a resumed run. None: each iteration begins with a new one.
        ledger: gets every bad sample and member. None: a new one.
        keep: bytes in which this rank's workers keep decoded samples for the next epochs of a training, see ``Kept``.
            The batches are the same to the bit. 0 keeps none.
        numbers: give each batch the ``number`` of its samples in the set, as a bank of negatives asks.
        marks: a hard negative has the ``mark`` of its sample in the batch (``align.data.join``) instead of -1.
        restarts: data workers that end are started anew so many times for one step, see ``Workers``.
        seconds: data workers that bring nothing for so long count as ended. 0: they may take any time.
        views: modality -> number of rows that each of its rows becomes in training, each augmented anew.
        stops: asked while the workers bring nothing. Where it returns True, ``StopAsked`` is raised.
        stride: a pass reads the steps start_step, start_step + stride, …: ``steps`` of them. A rank that reads whole
            batches by itself gives its number as start_step and the number of ranks here, and leaves rank and world.

    ``counts`` has the bad by reason, ``ledger`` also by shard and one by one, and ``waited`` the seconds that the
    consumer waited, over all iterations.
    Raises ValueError where the shards hold less than one batch, and for a ``Pipeline`` without ``train``. Raises
    TooManyBad (exit code 3) over the budget of the shards.
    """

    def __init__(
        self,
        shards: Reading,
        preprocess: Mapping[str, Preprocess],
        *,
        batch: int,
        workers: int = 0,
        train: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        start_step: int = 0,
        steps: int | None = None,
        pin_memory: bool = False,
        share: Callable[[Sequence[Bad]], list[Bad]] | None = None,
        budget: Budget | None = None,
        ledger: Ledger | None = None,
        keep: int = 0,
        numbers: bool = False,
        marks: bool = False,
        stride: int = 1,
        restarts: int = 3,
        seconds: float = 600.0,
        stops: Callable[[], bool] | None = None,
        views: Mapping[str, int] | None = None,
    ):
        check_numbers(batch, rank, world, workers, start_step, steps)
        decodings = check_source(shards, preprocess, batch=batch, train=train, views=views or {})
        if not train:
            check_by_position(shards)
        elif rank == 0:
            warn_of_pipelines(shards)
        if rank == 0:
            warn_of_double_reads(shards, world * max(1, workers))
        self.shards, self.batch, self.workers, self.train = shards, batch, workers, train
        self.steps_per_epoch = len(shards) // batch if train else -(-len(shards) // batch)
        if steps is None and not train:
            steps = len(range(start_step, self.steps_per_epoch, stride))
        self.start_step, self.steps, self._rank, self._marks = start_step, steps, rank, marks
        self.stride = stride
        self._pieces = Pieces(
            shards,
            dict(preprocess),
            batch,
            train,
            seed,
            rank,
            world,
            start_step,
            steps,
            self.steps_per_epoch,
            decodings,
            self._keep(keep) if train and not is_direct(shards, preprocess) else None,
            stride,
            views,
        )
        self._numbers = numbers
        self._pin = pin_memory and torch.cuda.is_available()
        self._workers = Workers(self._pieces, workers, restarts=restarts, seconds=seconds) if workers else None
        self._stops = stops
        self._counts: Counter[str] = Counter()
        self._share, self._budget = share, budget
        self.ledger = Ledger() if ledger is None else ledger
        self.waited = 0.0

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("an endless training stream has no length; give `steps`, or see `steps_per_epoch`")
        return self.steps

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the bad in the batches handed out so far, by reason."""
        return dict(self._counts)

    def __iter__(self) -> Iterator[Batch]:
        """Begin a pass. An error ends the workers: nobody reads on, and torch would wait for them at the very end."""
        try:
            yield from self._read()
        except Exception:
            self.close()
            raise

    def _read(self) -> Iterator[Batch]:
        total = 0 if self.train else len(self.shards)
        budget = self._budget or Budget(self.shards.max_bad, lost=self.shards.lost, total=total)
        parts = iter(self._pieces) if self._workers is None else None
        if self._workers is not None:
            self._workers.begin()
        step = self.start_step
        while self.steps is None or step < self.start_step + self.steps * self.stride:
            begin = time.perf_counter()
            found = self._next(parts, step)
            batch = join([part for part, _ in found], marks=self._marks)
            epoch, within = divmod(step, self.steps_per_epoch)
            if self._numbers:
                batch.number = torch.tensor([self.shards.number(p, epoch) for p in batch.position.tolist()])
            if self._pin:
                batch = batch.pin_memory()
            self.waited += time.perf_counter() - begin
            bad = sorted((b for _, some in found for b in some), key=lambda b: b.position)
            seen, step = batch.size, step + 1
            if self._share is not None:
                bad, seen = self._share(bad), min(self.batch, len(self.shards) - within * self.batch)
                if failed := next((b for b in bad if b.reason == FAILED), None):
                    raise ValueError(failed.key)
                if any(b.reason == ASKED for b in bad):
                    raise StopAsked
            for b in bad:
                self._counts[b.reason] += 1
                self.shards.count(b.reason, where=b.where)
            self.ledger.add(bad, seen=seen, split="train" if self.train else "val", epoch=epoch, step=step)
            budget.add(bad, seen=seen)
            if step % self.steps_per_epoch == 0:
                budget.end_epoch()
            step += self.stride - 1
            yield batch

    def close(self) -> None:
        """End the workers. Iterating again starts new ones."""
        if self._workers is not None:
            self._workers.close()

    def _keep(self, budget: int) -> Kept | None:
        """Return the memory for decoded samples, or None where no sample would be read twice."""
        numbers, steps = self.shards.numbers, self.steps
        again = (
            steps is None
            or isinstance(self.shards, Sources)
            or self.start_step % self.steps_per_epoch + steps > self.steps_per_epoch
        )
        return (
            Kept(budget, numbers, workers=self.workers, quiet=self._rank > 0) if budget and numbers and again else None
        )

    def _next(self, parts: Iterator[Piece | Exception] | None, step: int) -> list[Piece]:
        """Return the pieces of a step. An error, or a stop, is raised here and on the ranks that would wait.

        parts: those of this process, where it has no workers.
        """
        try:
            if self._workers is not None:
                return self._workers.read(step, self._look)
            part = next(parts or iter(()))
            if isinstance(part, Exception):
                raise part
            return [part]
        except StopIteration:
            raise RuntimeError(f"a data worker ended before step {step}") from None
        except (OSError, ValueError) as error:
            if self._share is not None:
                self._share([Bad(FAILED, self.shards.name, str(error))])
            raise
        except StopAsked:
            if self._share is not None:
                self._share([Bad(ASKED)])
            raise

    def _look(self) -> None:
        if self._stops is not None and self._stops():
            raise StopAsked
