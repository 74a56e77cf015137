"""Samples made piece by piece, in this process or in several, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any


def map_pieces(
    make: Callable[[Any, bool], list[dict[str, bytes]]], things: Sequence[Any], train: bool, *, workers: int, piece: int
) -> Iterator[dict[str, bytes]]:
    """Yield make(part, train) for parts of ``piece`` things, in order, in ``workers`` processes (0 and 1: in this
    one)."""
    pieces = [things[i : i + piece] for i in range(0, len(things), piece)]
    if workers < 2 or len(pieces) < 2:
        for part in pieces:
            yield from make(part, train)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawned, not forked: the caller may have torch's threads, and these processes need no torch
    with ProcessPoolExecutor(min(workers, len(pieces)), multiprocessing.get_context("spawn")) as pool:
        for samples in pool.map(make, pieces, repeat(train)):
            yield from samples
