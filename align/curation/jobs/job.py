"""What a split to write consists of, whatever its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final

from align.curation.jobs.balance import balanced
from align.data.bad import Lost

Progress = Callable[[int, int], None]
Fault = tuple[str, str] | tuple[str, str, str]
"""(reason, member), or with a detail."""
Made = tuple[dict[str, bytes], list[Fault]]
"""What a sample becomes, nothing where it is left out; and what of it was bad."""


class Item(Protocol):
    """A planned sample: ``Planned`` of a table, a folder or a program, ``Stored`` or ``Copied`` of shards.

    mark: what tells its bytes from others without reading them.
    """

    @property
    def key(self) -> str: ...
    @property
    def mark(self) -> str: ...


@final
@dataclass
class Job:
    """One split to write.

    work, state: ``work(state, item)`` makes a sample, in other processes where there are ``workers``, which are handed
    ``chunk`` items at a time. total: of items, where known. counts: items in each shard; None closes a shard at
    ``per_shard`` items or once it holds ``shard_bytes``. header: what the result follows from; a killed job with the
    same one is continued. lost: what the source had lost already.
    """

    out: Path
    split: str
    work: Callable[[Any, Any], Made]
    state: Any
    items: Iterable[Item]
    header: Mapping[str, Any]
    total: int | None = None
    counts: Sequence[int] | None = None
    per_shard: int = 1000
    shard_bytes: int | None = None
    lost: Sequence[Lost] = ()
    classes: Mapping[str, Sequence[str]] | None = None
    licence: str | None = None
    workers: int = 0
    chunk: int = 4
    resume: bool = True
    max_bad: float = 0.001
    progress: Progress | None = None


def planned(job: Job, items: Iterable[Item], sizes: Sequence[int] | None, header: Mapping[str, Any]) -> Job:
    """The job with its items and what its result follows from. sizes: of the items in bytes, where they are known."""
    counts = None
    if sizes is not None and (job.shard_bytes is None or not job.header["recode"]):
        counts = balanced(sizes, job.per_shard, job.shard_bytes)
    total = job.total if sizes is None else len(sizes)
    return replace(job, items=items, total=total, counts=counts, header={**job.header, **header})
