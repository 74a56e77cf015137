"""One process's share of a set: parts are claimed, written, and counted until all are there.

The files are the work list. A part that has its record is done. A process claims any other part before it writes it
(``align.files.claims``). If two processes write one part, because a claim was wrongly taken over, they write the same
bytes, and each file is renamed into place whole.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, final

from align.data.bad import Bad, Budget, Lost
from align.data.columns.format import FILE, part_path, schema, work_folder
from align.data.columns.part import read_record
from align.data.places.urls import Location
from align.embedding.features.part import Work, read_bad, write_part
from align.embedding.features.plan import PLAN, Plan, check_cache, check_same
from align.files import read_json, write_json
from align.files.claims import Claims

POLL = 1.0
"""Seconds between two looks at parts that other processes are writing."""


class Written(NamedTuple):
    """Report of a call. parts: of the set. made: written by this call. counts: reason -> bad members of the set."""

    parts: int
    made: int
    samples: int
    counts: dict[str, int]


@final
class Run:
    """Parts of a set that are left to write, and the work on them.

    Args:
        places: the source shards, in the plan's order.
        lost: samples that the indexing of the shards left out.
        progress: called with (samples done, samples in all).

    Raises ValueError as ``check_cache`` does.
    """

    def __init__(
        self,
        plan: Plan,
        out: Path,
        places: Sequence[Location],
        work: Work,
        *,
        lost: Sequence[Lost] = (),
        progress: Callable[[int, int], None] | None = None,
    ):
        self.plan, self.out, self.places, self.work, self.progress = plan, out, list(places), work, progress
        self.total, self.lost = sum(shard["samples"] for shard in plan.shards), list(lost)
        self.listed = check_cache(plan, out)
        self.known = [shard["sha256"] for shard in read_json(out / FILE)["shards"]] if (out / FILE).is_file() else None
        self.left = list(range(len(self.places)))
        self.left = [i for i in self.left if not self._is_there(i)]
        self._folder = work_folder(out, plan.name)
        self._claims = Claims(self._folder)
        self._encoded = 0  # samples of the part that this process is writing
        work.advance = self._advance

    @property
    def finished(self) -> bool:
        """True where the cache has the whole set."""
        return self.listed and not self.left

    def agree(self) -> None:
        """Write the plan, or check that the existing one is the same. A plan without any part is replaced."""
        path = self._folder / PLAN
        with self._claims.wait("plan", POLL / 10):
            known = read_json(path) if path.is_file() else None
            parts = len(self.left) < len(self.places)
            if known is None and parts and not self.listed:  # or another process has finished the set meanwhile
                self.listed = check_cache(self.plan, self.out)
            if known is None and parts and not self.listed:
                raise ValueError(
                    f"{self.out / self.plan.name} has parts and no plan; remove that folder, or name another --name"
                )
            if known is not None and (parts or self._is_claimed()):
                where = f"the set {self.out / self.plan.name} was begun"
                check_same(known["set"], self.plan.about, where, f"--name or --out, or remove it and {self._folder}")
            write_json(path, self.plan.content())

    def _is_claimed(self) -> bool:
        """Return True where a living process is writing a part."""
        for path in self._folder.glob("*.tar.claim"):
            with self._claims.hold(path.name.removesuffix(".claim")) as ours:
                if not ours:
                    return True
        return False

    def write_all(self, begin: float = 0.0) -> int:
        """Write parts until all are there, and return how many this process wrote.

        begin: the place in the list, from 0 to 1, of the first part that this process tries.
        """
        made, first = 0, int(begin * len(self.places))
        while self.left:
            before = len(self.left)
            for i in sorted(self.left, key=lambda i: (i - first) % len(self.places)):
                made += self.write_one(i)
            if len(self.left) == before:
                self._advance(0)
                time.sleep(POLL)
        return made

    def write_one(self, i: int) -> bool:
        """Write a part, and return True where this process wrote it.

        Afterwards ``left`` does not have it, unless another living process is writing it.
        """
        name = part_path(self.out, self.plan.name, self.places[i].name).name
        wrote = False
        if not self._is_there(i):
            with self._claims.hold(name) as ours:
                if not ours:
                    return False
                if not self._is_there(i):
                    self._write(i)
                    wrote = True
        if i in self.left:
            self.left.remove(i)
        self._encoded = 0
        self._advance(0)
        return wrote

    def _write(self, i: int) -> None:
        known = None if self.known is None else self.known[i]
        try:
            write_part(self.work, self.places[i], self.out, self.plan.name, known)
        except FileNotFoundError:
            if not self._is_there(i):  # else another process took over, and removed this one's temporary file
                raise

    def finish(self, made: int = 0) -> Written:
        """Check that all parts are there, name the set in ``cache.json``, and return the report.

        Raises FileNotFoundError for a part that is not there, TooManyBad.
        """
        records = [read_record(part_path(self.out, self.plan.name, place.name)) for place in self.places]
        found = list(self._bad())
        counts: dict[str, int] = {}
        for bad in found:
            counts[bad.reason] = counts.get(bad.reason, 0) + 1
        if not self.finished or made:
            budget = Budget(self.work.budget.max_bad, lost=self.lost, whole="in all", total=self.total)
            budget.add(found, self.total)
            budget.end_epoch()
            sums = [record.source for record in records]
            shards = [{**shard, "sha256": sha256} for shard, sha256 in zip(self.plan.shards, sums, strict=True)]
            with Claims(self.out).wait(f".{FILE}", POLL / 10):
                check_cache(self.plan, self.out)
                path = self.out / FILE
                content = read_json(path) if path.is_file() else {"schema": schema, "shards": shards, "sets": {}}
                if content["shards"] != shards:
                    raise ValueError(f"{path} is of shards with other checksums; the shards have changed meanwhile")
                content["sets"] = dict(sorted({**content["sets"], self.plan.name: self.plan.about}.items()))
                write_json(path, content)
            self.listed = True
        self._clean()
        return Written(len(self.places), made, self.total, dict(sorted(counts.items())))

    def _clean(self) -> None:
        """Remove the plan, and files that killed processes left."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder, ignore_errors=True)
        if any(self.out.glob(f".*{FILE}.*")):
            with Claims(self.out).hold(f".{FILE}") as ours:
                for left in self.out.glob(f".*{FILE}.*") if ours else ():
                    if left.suffix != ".claim":
                        left.unlink(missing_ok=True)

    def _is_there(self, i: int) -> bool:
        try:
            read_record(part_path(self.out, self.plan.name, self.places[i].name))
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _bad(self) -> Iterator[Bad]:
        """Yield the bad members of all parts, by their positions in the whole set."""
        first = 0
        for place, shard in zip(self.places, self.plan.shards, strict=True):
            part = part_path(self.out, self.plan.name, place.name)
            for bad in read_bad(part, read_record(part)):
                yield bad._replace(position=first + bad.position)
            first += shard["samples"]

    def _advance(self, n: int) -> None:
        self._encoded += n
        if self.progress is not None:
            left = sum(self.plan.shards[i]["samples"] for i in self.left)
            self.progress(self.total - left + self._encoded, self.total)


def count_parts(out: Path, name: str) -> int:
    """Return the number of parts of a set that are there."""
    return sum(path.with_suffix(".json").is_file() for path in (out / name).glob("*.tar"))
