"""From planned samples to finished shards: read and re-encoded in parallel, written in order, killed and continued."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from align.data.archive.index import places
from align.data.bad import Bad, Budget
from align.data.making.job import Item, Job
from align.data.making.journal import Journal
from align.data.making.pool import ordered
from align.data.making.writer import ShardWriter
from align.files import atomic_write, sha256


def make(jobs: Sequence[Job]) -> list[tuple[int, dict[str, int]]]:
    """Write the jobs' shards; returns for each how many samples they hold, and what was bad by reason.

    What was bad stands in ``OUT/SPLIT-bad.jsonl``. Raises TooManyBad (exit code 3) over the budget; whatever is raised,
    the shards finished so far, of the jobs before too, are kept for the next call with the same headers.
    """
    with ExitStack() as stack:  # no journal ends before the last job does
        return [_make(job, stack) for job in jobs]


def _make(job: Job, stack: ExitStack) -> tuple[int, dict[str, int]]:
    journal = stack.enter_context(Journal(job.out, job.split, job.header, resume=job.resume))
    for path in job.out.glob(f".{job.split}-??????.tar.*.tmp"):  # what a killed run was writing
        path.unlink(missing_ok=True)
    writer = ShardWriter(job.out, job.split, per_shard=sys.maxsize, classes=job.classes, licence=job.licence)
    budget = Budget(job.max_bad, lost=job.lost)
    with writer, closing(_Run(job, journal, writer, budget)) as run:
        run.go()
        budget.end_epoch()
        if writer.samples == 0:
            raise ValueError(f"no sample of the {budget.epoch_seen or run.done} that came could be written")
    found = [bad for entry in journal.entries for bad in entry["bad"]]
    lines = [{"shard": shard, "reason": reason, "n": n} for shard, reason, n in job.lost]
    names = ("key", "member", "reason", "detail")
    lines += [{name: said for name, said in zip(names, bad, strict=False) if said} for bad in found]
    _quarantine(job.out / f"{job.split}-bad.jsonl", lines)
    counts = Counter(reason for _, _, reason, *_ in found)
    for _, reason, n in job.lost:
        counts[reason] += n
    return writer.samples, dict(sorted(counts.items()))


class _Run:
    def __init__(self, job: Job, journal: Journal, writer: ShardWriter, budget: Budget):
        self.job, self.journal, self.writer, self.budget = job, journal, writer, budget
        self.done = 0
        self._made: Generator[tuple[Any, Any], None, None] | None = None

    def go(self) -> None:
        items = self._kept(iter(self.job.items))
        self._made = ordered(self.job.work, self.job.state, items, self.job.workers, self.job.chunk)
        taken, sums, bad = 0, hashlib.sha256(), []
        for item, (members, wrong) in self._made:
            taken, self.done = taken + 1, self.done + 1
            sums.update(_mark(item))
            found = [[item.key, member, reason, *detail] for reason, member, *detail in wrong]
            bad += found
            self._count(found, 1)
            if members:
                self.writer.write(item.key, members)
            if self._full(taken):
                self._finish(taken, sums.hexdigest(), bad)
                taken, sums, bad = 0, hashlib.sha256(), []
            if self.job.progress is not None:
                self.job.progress(self.done, self.job.total or self.done)
        if taken:
            self._finish(taken, sums.hexdigest(), bad)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()  # ends the worker processes

    def _full(self, taken: int) -> bool:
        job, shard = self.job, len(self.journal.entries)
        if job.counts is not None:
            return shard < len(job.counts) and taken >= job.counts[shard]
        return taken >= job.per_shard or (job.shard_bytes is not None and self.writer.filled >= job.shard_bytes)

    def _finish(self, taken: int, digest: str, bad: list[list[str]]) -> None:
        path = self.writer.next_path
        full = self._full(taken)
        entry = self.writer.cut()
        when = path.stat().st_mtime_ns if entry is not None else 0
        self.journal.add({"taken": taken, "full": full, "items": digest, "bad": bad, "mtime_ns": when, "shard": entry})

    def _kept(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items that are still to do, after those of the shards that the journal has and the folder too."""
        for n, entry in enumerate(list(self.journal.entries)):
            some = list(islice(items, entry["taken"]))
            sums = hashlib.sha256()
            for item in some:
                sums.update(_mark(item))
            counts = self.job.counts
            as_cut = counts is None or (n < len(counts) and counts[n] == len(some))
            more = list(islice(items, 0 if entry["full"] else 1))  # the end of a source that has grown since
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
        if path.stat().st_mtime_ns == entry["mtime_ns"] and places(path)[0].is_file():
            return True
        return sha256(path) == said["sha256"]

    def _count(self, bad: Sequence[Sequence[str]], seen: int) -> None:
        place = {key: n for n, key in enumerate(dict.fromkeys(key for key, *_ in bad))}
        self.budget.add([Bad(reason, "", key, member, place[key]) for key, member, reason, *_ in bad], seen)


def _mark(item: Item) -> bytes:
    return item.mark.encode("utf-8", "surrogateescape") + b"\n\n"


def _quarantine(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    if not lines:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path, "w") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
