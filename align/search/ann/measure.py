"""Measurements of an approximate search: recall by the modality that asks, and rows that do not find themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from align.search.ann.notes import read_notes, write_notes
from align.search.approximate import Approximate
from align.search.building.staging import Busy, hold_index
from align.search.finder import Stale
from align.search.made import Made

K = 10
QUERIES = 200
SELVES = 20_000  # rows of a modality that look for themselves


class Recall(NamedTuple):
    """Recall of one modality's rows that ask for another's.

    recall: share of the exact 10 best that are found; an equal score counts as found. worst: of one query.
    exact, approximate: milliseconds a query. proposed: queries that were answered from proposals. The others were
    answered exactly, for one of the reasons that ``Approximate`` has.
    """

    by: str
    of: str
    queries: int
    recall: float
    worst: float
    exact: float
    approximate: float
    proposed: int


class Selves(NamedTuple):
    """Rows that look for themselves. lost: the samples that are not proposed for one of their own rows."""

    of: str
    rows: int
    tried: int
    lost: list[int]


def measure_recall(index: Approximate, by: str, of: str, *, queries: int = QUERIES, k: int = K) -> Recall:
    """Return the recall of rows of a modality as queries, drawn from the index, the same ones each time."""
    query = _draw(index, by, queries)
    start = time.perf_counter()
    exact = [index.index.search(one, of, k)[0] for one in query.split(1)]
    middle = time.perf_counter()
    found, proposed = [], 0
    for one in query.split(1):
        found.append(index.search(one, of, k)[0])
        proposed += any(note.startswith("approximate") for note in index.list_notes())
    end = time.perf_counter()
    shares = [float((got[0] >= best[0, -1]).sum()) / best.shape[1] for got, best in zip(found, exact, strict=True)]
    n = len(query)
    times = 1e3 * (middle - start) / n, 1e3 * (end - middle) / n
    return Recall(by, of, n, sum(shares) / n, min(shares), *times, proposed)


def find_lost(index: Approximate, of: str, *, most: int = SELVES) -> Selves:
    """Return the samples whose rows do not find themselves. most: rows that are tried, drawn from all.

    Raises ValueError where the approximate search is stale, also where it becomes so meanwhile.
    """
    try:
        return _find_lost(index, of, most)
    except Stale as error:
        raise ValueError(f"{error} while it was measured") from None


def _find_lost(index: Approximate, of: str, most: int) -> Selves:
    finder, n = index.open_finder(of)
    numbers, lost, tried = _draw_numbers(index, of, most), [], 0
    for some in numbers.split(256):
        values, sample = index.index.unit_rows(of, some)[:2]
        assert isinstance(values, Tensor)
        proposed = finder.propose(values, n)
        tried += len(sample)
        for i in ((proposed != sample[:, None]).all(dim=1)).nonzero()[:, 0].tolist():
            if not _has_equal(index, of, values[i], proposed[i], n):
                lost.append(int(sample[i]))
    return Selves(of, index.modalities[of], tried, sorted(set(lost)))


def _has_equal(index: Approximate, of: str, row: Tensor, proposed: Tensor, n: int) -> bool:
    """Return True where all n proposals are copies of a row: it has more copies than are proposed."""
    others = index.index.unit_rows(of, proposed[proposed >= 0])[0]
    assert isinstance(others, Tensor)
    return len(proposed[proposed >= 0]) == n and bool((others == row).all(dim=1).sum() >= n)


def _draw_numbers(index: Approximate, of: str, n: int) -> Tensor:
    numbers = index.numbers(of)
    return numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(2))[:n]].sort().values


def _draw(index: Approximate, of: str, n: int) -> Tensor:
    values = index.index.unit_rows(of, _draw_numbers(index, of, n))[0]
    assert isinstance(values, Tensor)
    return values[:n]


def keep_measured(folder: Path, made: Made, recalls: Sequence[Recall], selves: Sequence[Selves]) -> None:
    """Write the measured numbers into the notes of an index: modality -> them.

    made: the approximate search that was measured. Where the index has another one by now, the numbers are not kept.
    """
    measured = {
        one.of: {
            "tried": one.tried,
            "lost": len(one.lost),
            "recall": {pair.by: round(pair.recall, 4) for pair in recalls if pair.of == one.of},
        }
        for one in selves
    }
    with suppress(Busy), hold_index(folder):
        notes = read_notes(folder)
        if notes is not None and (notes.backend, notes.modalities) == (made.backend.name, made.modalities):
            write_notes(folder, replace(notes, measured=measured))
