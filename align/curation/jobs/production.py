"""Making of shards from planned samples: read and re-encoded in parallel, written in order, resumed after a kill."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from align.curation.jobs.job import Item, Job
from align.curation.jobs.journal import Journal
from align.curation.jobs.pool import run_in_order
from align.data.archive.index import index_paths
from align.data.archive.writer import ShardWriter
from align.data.bad import BLANK, EMPTY, NOTED, Bad, Budget, Lost, TooManyBad, is_fault
from align.data.names import FIRST_DOT
from align.files import atomic_write, json_text, sha256


def make(jobs: Sequence[Job]) -> list[tuple[int, dict[str, int]]]:
    """Write the jobs' shards and return (samples written, reason -> number of faults) for each job.

    ``OUT/SPLIT-bad.jsonl`` lists the faults, also where they are too many. Raises TooManyBad (exit code 3) over the
    budget. Whatever is raised, the shards that are finished, those of earlier jobs too, are kept for the next call with
    the same headers.
    """
    with ExitStack() as stack:  # no journal ends before the last job does
        return [_make(job, stack) for job in jobs]


def make_and_count(jobs: Sequence[Job], left: int) -> dict[str, int]:
    """Write the jobs' shards and count samples per split, "left out", and above 0 the other kinds.

    They are "bad", "blank", "regions", "misnamed" and "noted". left: samples and files that the source left out.
    """
    made = make(jobs)
    counts = sum((Counter(counts) for _, counts in made), Counter[str]())
    kinds = {
        "bad": sum(n for reason, n in counts.items() if is_fault(reason) and not _is_of_region(reason)),
        "blank": sum(n for reason, n in counts.items() if reason.endswith(f"/{BLANK}") and not _is_of_region(reason)),
        "regions": sum(n for reason, n in counts.items() if _is_of_region(reason)),
        "misnamed": sum(n for reason, n in counts.items() if reason.startswith("member/")),
        "noted": sum(n for reason, n in counts.items() if reason in NOTED),
    }
    written = {job.split: samples for job, (samples, _) in zip(jobs, made, strict=True)}
    return {**written, "left out": left + counts[EMPTY], **{kind: n for kind, n in kinds.items() if n}}


def _is_of_region(reason: str) -> bool:
    """Return True for a fault of an entry of ``regions``, which is written as it came."""
    return reason.startswith(("region/", "region_text/"))


def _make(job: Job, stack: ExitStack) -> tuple[int, dict[str, int]]:
    writer = ShardWriter(job.out, job.split, per_shard=sys.maxsize, classes=job.classes, licence=job.licence)
    journal = stack.enter_context(Journal(job.out, job.split, job.header, resume=job.resume))
    for path in job.out.glob(f".{job.split}-??????.tar.*.tmp"):  # unfinished shards of a killed run
        path.unlink(missing_ok=True)
    quarantine = job.out / f"{job.split}-bad.jsonl"
    remedy = f"; {quarantine} names them; --max-bad (max_bad) says how many may be, 1 that any number may"
    budget = Budget(job.max_bad, lost=job.lost, whole="in all", remedy=remedy)
    with writer, closing(_Run(job, journal, writer, budget)) as run:
        try:
            run.go()
            budget.end_epoch()
            if writer.samples == 0:
                why = f"; {quarantine} says why" if run.found or job.lost else ""
                why += f" ({FIRST_DOT})" if any(reason.startswith("member/") for _, _, reason, *_ in run.found) else ""
                raise ValueError(f"no sample of the {run.done} that came could be written{why}")
        except (TooManyBad, ValueError):
            _quarantine(quarantine, job.lost, run.found)
            raise
    _quarantine(quarantine, job.lost, run.found)
    counts = Counter(reason for _, _, reason, *_ in run.found)
    for _, reason, n in job.lost:
        counts[reason] += n
    return writer.samples, dict(sorted(counts.items()))


class _Run:
    def __init__(self, job: Job, journal: Journal, writer: ShardWriter, budget: Budget):
        self.job, self.journal, self.writer, self.budget = job, journal, writer, budget
        self.done = 0
        self._bad: list[list[str]] = []  # [key, member, reason] of the shard that is being filled
        self._made: Generator[tuple[Any, Any], None, None] | None = None

    def go(self) -> None:
        items = self._skip_finished(iter(self.job.items))
        self._made = run_in_order(self.job.work, self.job.state, items, self.job.workers, self.job.chunk)
        taken, sums = 0, hashlib.sha256()
        for item, (members, wrong) in self._made:
            taken, self.done = taken + 1, self.done + 1
            sums.update(_mark(item))
            found = [[item.key, member, reason, *detail] for reason, member, *detail in wrong]
            self._bad += found
            self._count(found, 1)
            if members:
                self.writer.write(item.key, members)
            if self._full(taken):
                self._finish(taken, sums.hexdigest())
                taken, sums = 0, hashlib.sha256()
            if self.job.progress is not None:
                self.job.progress(self.done, self.job.total or self.done)
        if taken:
            self._finish(taken, sums.hexdigest())

    @property
    def found(self) -> list[list[str]]:
        """[key, member, reason] of every fault so far, with those of shards that an earlier call finished."""
        return [bad for entry in self.journal.entries for bad in entry["bad"]] + self._bad

    def close(self) -> None:
        if self._made is not None:
            self._made.close()  # ends the worker processes

    def _full(self, taken: int) -> bool:
        job, shard = self.job, len(self.journal.entries)
        if job.counts is not None:
            return shard < len(job.counts) and taken >= job.counts[shard]
        return taken >= job.per_shard or (job.shard_bytes is not None and self.writer.filled >= job.shard_bytes)

    def _finish(self, taken: int, digest: str) -> None:
        path = self.writer.next_path
        full = self._full(taken)
        entry = self.writer.cut()
        when = path.stat().st_mtime_ns if entry is not None else 0
        self.journal.add(
            {"taken": taken, "full": full, "items": digest, "bad": self._bad, "mtime_ns": when, "shard": entry}
        )
        self._bad = []

    def _skip_finished(self, items: Iterator[Item]) -> Iterator[Item]:
        """Return the items that are left to do: those after the shards that both the journal and the folder have."""
        for n, entry in enumerate(list(self.journal.entries)):
            some = list(islice(items, entry["taken"]))
            sums = hashlib.sha256()
            for item in some:
                sums.update(_mark(item))
            counts = self.job.counts
            as_cut = counts is None or (n < len(counts) and counts[n] == len(some))
            more = list(islice(items, 0 if entry["full"] else 1))  # an item here: the source has grown since
            same = len(some) == entry["taken"] and as_cut and not more and sums.hexdigest() == entry["items"]
            if not same or not self._stands(entry):
                self.journal.keep(n)
                return chain(some, more, items)
            if entry["shard"] is not None:
                self.writer.keep(entry["shard"])
            self._count(entry["bad"], len(some))
            self.done += len(some)
        return items

    def _stands(self, entry: Mapping[str, Any]) -> bool:
        said, path = entry["shard"], self.writer.next_path
        if said is None:
            return True
        if not path.is_file() or path.stat().st_size != said["size"]:
            return False
        if path.stat().st_mtime_ns == entry["mtime_ns"] and index_paths(path)[0].is_file():
            return True
        return sha256(path) == said["sha256"]

    def _count(self, bad: Sequence[Sequence[str]], seen: int) -> None:
        place = {key: n for n, key in enumerate(dict.fromkeys(key for key, *_ in bad))}
        self.budget.add([Bad(reason, "", key, member, place[key]) for key, member, reason, *_ in bad], seen)


def _mark(item: Item) -> bytes:
    return item.mark.encode("utf-8", "surrogateescape") + b"\n\n"


def _quarantine(path: Path, lost: Sequence[Lost], found: Sequence[Sequence[str]]) -> None:
    """List lost samples and faults in a file. Without any, remove the file."""
    lines: list[Mapping[str, Any]] = [{"shard": shard, "reason": reason, "n": n} for shard, reason, n in lost]
    names = ("key", "member", "reason", "detail")  # a fault may lack the detail
    for bad in found:
        lines.append(dict(zip(names, [*bad[:3], *filter(None, bad[3:])], strict=False)))
    if not lines:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path, "w") as file:
        file.writelines(json_text(line) + "\n" for line in lines)
