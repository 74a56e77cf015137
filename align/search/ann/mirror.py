"""Mirrors of an index on a server: made, and kept in step when the index has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from align.search.ann.attach import drop_mirror, drop_stale, remedy
from align.search.ann.make import Progress, read_blocks, read_old
from align.search.ann.named import find_backend
from align.search.ann.notes import Notes, identify, read_notes, remove_notes, write_notes
from align.search.building.staging import Busy, hold_index
from align.search.local import LocalIndex
from align.search.makers import read_maker
from align.search.remote import is_address


class Mirrored(NamedTuple):
    """A mirror that is in step: rows, those that were sent, those that were removed there, and seconds."""

    of: str
    rows: int
    sent: int
    removed: int
    seconds: float


def make_mirrors(
    folder: Path, address: str, *, effort: float = 1.0, progress: Progress | None = None
) -> list[Mirrored]:
    """Send the rows of every modality to a server, in place of the approximate search that is there.

    Rows that the server has are not sent again: so a killed call goes on, and a mirror is brought in step. Until the
    end searches are exact.

    progress: called with the rows that are done, and all.

    Raises ValueError where the server has collections of these names that are not ours, before anything is sent, where
    the index has no rows, and where it changed meanwhile. Raises Unavailable where the server does not answer, and
    OSError where all is sent and an earlier server, whose mirror goes, does not.
    """
    with hold_index(folder), LocalIndex.open(folder) as index:
        if not index.modalities:
            raise ValueError(f"{folder} has no rows")
        backend = find_backend(folder, address, effort)
        old, marks = read_old(folder), {of: index.mark(of) for of in index.modalities}
        known = old.modalities if old is not None and old.backend == backend.name else {}
        stated = {of: _state(index, folder, of) for of in index.modalities}
        for of, facts in stated.items():
            backend.check_place(of, facts)
        facts: dict[str, dict[str, Any]] = {}
        made: list[Mirrored] = []
        done, every = 0, sum(index.modalities.values())
        for of, rows in index.modalities.items():
            start, last = time.perf_counter(), known.get(of, {})
            if (
                last.get("mark") == marks[of]
                and last.get("index") == stated[of]["index"]
                and backend.is_whole(of, last)
            ):
                facts[of] = dict(last)
                made.append(Mirrored(of, rows, 0, 0, time.perf_counter() - start))
            else:
                given = backend.make(of, _count(read_blocks(index, of), done, every, progress), stated[of])
                facts[of] = {**stated[of], **given, "mark": marks[of]}
                made.append(Mirrored(of, rows, given["sent"], given["removed"], time.perf_counter() - start))
            done += rows
        if {of: index.mark(of) for of in index.modalities} != marks:
            raise ValueError(f"{folder} changed while its rows were sent; try again")
        write_notes(folder, Notes(backend.name, identify(folder), effort, facts))
        backend.sweep(facts)
        find_backend(folder, "hnsw").drop()
        if old is not None and is_address(old.backend) and old.backend != backend.name:
            drop_mirror(folder, old.backend, f"searches of {folder} ask {backend.name} now")
    return made


def keep_in_step(folder: Path) -> list[str]:
    """Bring an index's mirrors in step with its rows, or remove another approximate search that is stale.

    Returns a line for each. Raises OSError where the index has changed, and its server cannot be reached or another
    process is changing the index.
    """
    try:
        notes = read_notes(folder)
    except ValueError:
        return drop_stale(folder)
    if notes is None or not is_address(notes.backend):
        return drop_stale(folder)
    with LocalIndex.open(folder) as index:
        marks = {of: index.mark(of) for of in index.modalities}
    if marks == {of: facts.get("mark") for of, facts in notes.modalities.items()}:
        return []
    try:
        if not marks:
            find_backend(folder, notes.backend).drop()
            remove_notes(folder)
            return [f"the index has no rows any more; its mirror at {notes.backend} is removed"]
        made = make_mirrors(folder, notes.backend, effort=notes.effort)
    except (Busy, OSError) as error:
        raise OSError(
            f"the index is changed, and searched exactly: its mirror is not in step ({error}); "
            f"{remedy(folder, notes.backend)} brings it in step"
        ) from None
    return [say_mirror(one, notes.backend) for one in made if one.sent or one.removed]


def say_mirror(one: Mirrored, address: str) -> str:
    """Return a sentence about a mirror that was brought in step."""
    return (
        f"{address}: {one.rows} {one.of} rows, of which {one.sent} were sent; {one.removed} were removed there; "
        f"{one.seconds:.1f} s"
    )


def _state(index: LocalIndex, folder: Path, of: str) -> dict[str, Any]:
    model = str(read_maker(index.about).get("sha256") or "")
    stated = {"index": identify(folder), "generation": index.generation, "dim": index.about["dim"], "model": model}
    return {**stated, "rows": index.modalities[of]}


def _count(
    blocks: Iterator[tuple[Tensor, Tensor]], done: int, every: int, progress: Progress | None
) -> Iterator[tuple[Tensor, Tensor]]:
    for values, numbers in blocks:
        yield values, numbers
        done += len(numbers)
        if progress is not None:
            progress(done, every)
