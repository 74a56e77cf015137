"""The making of an approximate search for an index that is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from align.search.ann.attach import drop_mirror
from align.search.ann.kinds import KINDS
from align.search.ann.local import LocalBackend
from align.search.ann.memory import measure_memory
from align.search.ann.named import find_backend
from align.search.ann.notes import Notes, identify, read_notes, write_notes
from align.search.building.staging import hold_index
from align.search.finder import TooFew
from align.search.local import LocalIndex

BLOCK = 1 << 14  # samples read at a time

Progress = Callable[[int, int], Any]


class Making(NamedTuple):
    """The making of a modality's search: rows, seconds, bytes on the disk, and bytes that the process held more."""

    of: str
    rows: int
    seconds: float
    disk: int
    memory: int


def make_backend(
    folder: Path, name: str, *, effort: float = 1.0, progress: Progress | None = None
) -> tuple[list[Making], list[str]]:
    """Make an approximate search of every modality, in place of the one that is there.

    The old one answers until the new one is complete. A killed call leaves it as it was.

    Args:
        name: see ``find_backend``. effort: the factor of the effort of searches.
        progress: called with the rows that are done, and all.

    Returns what was made, and a line for each modality that was left out and for an earlier mirror that could not be
    removed. Raises ValueError where nothing can be made
    of any, where another process is changing the index, and where the index changed meanwhile.
    """
    with hold_index(folder), LocalIndex.open(folder) as index:
        backend = find_backend(folder, name, effort, lambda of, n: draw_rows(index, of, n))
        name = backend.name
        old = read_old(folder)
        made: list[Making] = []
        left: list[str] = []
        facts: dict[str, dict[str, Any]] = {}
        every, before = sum(index.modalities.values()), 0
        for of, n in index.modalities.items():
            start, held = time.perf_counter(), measure_memory()
            stated = {"index": identify(folder), "generation": index.generation, "dim": index.about["dim"], "rows": n}
            mark = index.mark(of)
            try:
                given = backend.make(of, _report_blocks(index, of, before, every, progress), stated)
            except TooFew as error:
                left.append(f"{error}; exact search answers there")
                continue
            seconds = time.perf_counter() - start
            if index.mark(of) != mark:
                raise ValueError(f"{folder} changed while its {name} was made; try again")
            facts[of] = {**stated, **given, "mark": mark}
            disk = sum(int(one["bytes"]) for one in given.get("files", {}).values())
            made.append(Making(of, n, seconds, disk, max(0, measure_memory() - held)))
            before += n
        if not facts:
            raise ValueError("; ".join(left) or f"{folder} has no rows")
        write_notes(folder, Notes(name, identify(folder), effort, facts))
        LocalBackend(folder, "hnsw").sweep(facts)
        if old is not None and old.backend not in (name, *KINDS):
            try:
                drop_mirror(folder, old.backend, f"searches of {folder} use the {name} now")
            except OSError as error:
                left.append(str(error))
    return made, left


def read_blocks(index: LocalIndex, of: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the unit rows of a modality (n, D) and their samples (n,), which ascend from block to block."""
    for some in index.numbers(of).split(BLOCK):
        values, sample = index.unit_rows(of, some)[:2]
        assert isinstance(values, Tensor)
        yield values, sample


def draw_rows(index: LocalIndex, of: str, n: int) -> Tensor:
    """Return the rows (n or more, D) of samples that are drawn from all, the same ones each time."""
    numbers = index.numbers(of)
    drawn = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))[:n]]
    values = index.unit_rows(of, drawn)[0]
    assert isinstance(values, Tensor)
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(1))]


def _report_blocks(
    index: LocalIndex, of: str, before: int, every: int, progress: Progress | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for values, sample in read_blocks(index, of):
        yield values, sample
        before += len(sample)
        if progress is not None:
            progress(before, every)


def read_old(folder: Path) -> Notes | None:
    """Return the notes that are about to be replaced, None also for damaged ones."""
    try:
        return read_notes(folder)
    except ValueError:
        return None
