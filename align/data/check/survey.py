"""The pass over a whole set, by this process or by several; the result is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from align.data.check.samples import examine
from align.data.check.seen import Seen
from align.data.shards import Shards

STRETCH = 64  # positions between two words of progress
PIECE = 512  # positions that a worker does at a time


def survey(
    shards: Shards,
    modalities: Sequence[str],
    most: int,
    *,
    workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Seen:
    """Every sample of a set. progress: called with how many are done; workers: processes, 0 for this one alone."""
    seen, done = Seen(most), 0
    parts = _here(shards, modalities, most) if workers == 0 else _there(shards, modalities, most, workers)
    for part in parts:
        seen.merge(part)
        done += part.samples
        if progress is not None:
            progress(done)
    return seen


def _here(shards: Shards, modalities: Sequence[str], most: int) -> Iterator[Seen]:
    for start in range(0, len(shards), STRETCH):
        yield examine(shards, range(start, min(len(shards), start + STRETCH)), modalities, most)


def _there(shards: Shards, modalities: Sequence[str], most: int, workers: int) -> Iterator[Seen]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    pieces = [range(start, min(len(shards), start + PIECE)) for start in range(0, len(shards), PIECE)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        max(1, min(workers, len(pieces))), context, _begin, (shards, list(modalities), most)
    ) as pool:
        yield from pool.map(_piece, pieces)


_work: tuple[Shards, list[str], int] | None = None  # of a worker


def _begin(shards: Shards, modalities: list[str], most: int) -> None:
    global _work
    import torch

    torch.set_num_threads(1)
    _work = (shards, modalities, most)


def _piece(positions: range) -> Seen:
    if _work is None:
        raise RuntimeError("a worker was given a piece before its shards")
    shards, modalities, most = _work
    return examine(shards, positions, modalities, most)
