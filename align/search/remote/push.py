"""A mirror brought in step with the rows of an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

from torch import Tensor

from align.search.remote.keys import TOP, cut_blocks, digest_rows, make_keys
from align.search.remote.mark import Mark, check_mark
from align.search.remote.store import Store


class Pushed(NamedTuple):
    """Counts of one sending. push: its name, which the mirror's mark has too. top: above the last sample's number."""

    push: str
    rows: int
    top: int
    sent: int
    removed: int


def check_place(store: Store, mark: Mark) -> bool:
    """Return True where a mirror is there. Raises ValueError where a collection of its name is not this mirror."""
    there = store.describe(mark.name)
    if there is None:
        return False
    check_mark(there.mark, mark, there.dim, there.metric, store.where)
    return True


def push(store: Store, mark: Mark, rows: Iterator[tuple[Tensor, Tensor]]) -> Pushed:
    """Send the rows of a modality to a server: those that it lacks or that have changed. Rows of others are removed.

    A sending that was stopped goes on when it is made again: rows that are there are compared by their digests. While
    rows are sent the mark has no ``push``, so no search takes the mirror for whole.
    """
    fresh = not check_place(store, mark)
    if fresh:
        store.create(mark.with_push(""))
    else:
        store.note(mark.with_push(""))
    store.prepare(mark.name)
    low = count = sent = removed = 0
    for values, numbers in cut_blocks(rows, min(store.block(mark.dim), store.most)):
        high = int(numbers[-1]) + 1
        there = {} if fresh else store.keys(mark.name, low, high)
        keys, digests = make_keys(numbers), digest_rows(values)
        changed = [
            i for i, (key, digest) in enumerate(zip(keys.tolist(), digests, strict=True)) if there.get(key) != digest
        ]
        if changed:
            store.put(mark.name, keys[changed], [digests[i] for i in changed], values[changed])
        if orphans := sorted(there.keys() - set(keys.tolist())):
            store.remove(mark.name, orphans)
        count, sent, removed, low = count + len(keys), sent + len(changed), removed + len(orphans), high
    if not fresh and (orphans := sorted(store.keys(mark.name, low, TOP))):
        store.remove(mark.name, orphans)
        removed += len(orphans)
    store.settle(mark.name)
    done = uuid4().hex
    store.note(mark.with_push(done))
    return Pushed(done, count, low, sent, removed)
