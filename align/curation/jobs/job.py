"""Description of a split to write, the same for every source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, final

from align.curation.jobs.balance import balance
from align.data.bad import Lost

Progress = Callable[[int, int], None]
Fault = tuple[str, str] | tuple[str, str, str]
"""(reason, member) or (reason, member, detail)."""
Made = tuple[dict[str, bytes], list[Fault]]
"""The members that a sample becomes, none where it is left out, and its faults."""


class Item(Protocol):
    """A planned sample: ``Planned`` of a table, a folder or a program, ``Stored`` or ``Copied`` of shards.

    mark: text that differs for other bytes and is made without reading them.
    """

    @property
    def key(self) -> str: ...
    @property
    def mark(self) -> str: ...


@final
@dataclass
class Job:
    """One split to write.

    work, state: ``work(state, item)`` makes a sample, in this process or in ``workers`` others, which are handed
    ``chunk`` items at a time. total: number of items, where known. counts: items in each shard. None closes a shard at
    ``per_shard`` items or when it holds ``shard_bytes``. header: input and options that the result follows from. A
    killed job with the same header is resumed. lost: samples and members that the source had lost already.
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


def plan_job(job: Job, items: Iterable[Item], sizes: Sequence[int] | None, header: Mapping[str, Any]) -> Job:
    """Return the job with its items, their number in each shard, and ``header`` added to its own.

    sizes: bytes of each item, where they are known.
    """
    counts = None
    if sizes is not None and (job.shard_bytes is None or not job.header["recode"]):
        counts = balance(sizes, job.per_shard, job.shard_bytes)
    total = job.total if sizes is None else len(sizes)
    return replace(job, items=items, total=total, counts=counts, header={**job.header, **header})
