"""Writing of a set of a cache, by any number of processes that share a file system."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from align.data import Shards
from align.data.bad import Budget
from align.data.columns.format import FILE, part_path, schema
from align.data.columns.part import read_record
from align.data.places.urls import Location
from align.embedding.features.encode import Want
from align.embedding.features.part import Work, read_bad, write_part
from align.embedding.features.plan import PLAN, Plan, check_cache, check_same, choose_towers, make_plan, work_folder
from align.files import read_json, write_json
from align.files.claims import Claims
from align.model import JointModel

POLL = 1.0
"""Seconds between two looks at parts that other processes are writing."""


class Written(NamedTuple):
    """Report of a call. parts: of the set. made: those that this call wrote. counts: bad members by reason, of all."""

    parts: int
    made: int
    samples: int
    counts: dict[str, int]


def write_cache(
    model: JointModel,
    shards: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    name: str,
    source: str = "",
    features: bool = True,
    tokens: bool = False,
    dtype: Literal["float16", "float32"] = "float16",
    towers: Sequence[str] | None = None,
    members: Mapping[str, Sequence[str]] | None = None,
    max_bad: float = 0.001,
    batch: int = 64,
    workers: int = 0,
    begin: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the set ``name`` of a cache: the towers' features, or the model's embeddings, of all rows of shards.

    A cache that has other sets of the same shards gets one more. A set that was interrupted goes on part by part. Other
    processes that make the same call share its parts. ``cache.json`` names the set when all of its parts are there.

    Args:
        shards: a path, a pattern, a URL, or a list of them.
        out: the cache's folder.
        source: the model, as ``align.load`` takes it, for whoever reads the cache.
        features: the encoders' features. False: embeddings.
        tokens: the tokens of each row too.
        dtype: the precision that is stored.
        towers: modalities. None: all of the model that the shards have.
        members: as for ``Shards``.
        max_bad: the share of bad samples above which the set is not finished.
        batch: positions that are encoded together. It divides 1,024. Another batch can move the last bits.
        workers: processes that read and decode.
        begin: the place in the list of parts, from 0 to 1, where this process begins.
        progress: called with (samples done, samples in all).

    Raises ValueError for a model, shards, a cache or values that do not fit, TooManyBad, and OSError as files do.
    """
    out = Path(out)
    opened = Shards(shards, shuffle=False, members=members, max_bad=max_bad)
    chosen = choose_towers(model, opened, towers)
    want = Want(chosen, "features" if features else "embedding", tokens, dtype)
    plan = make_plan(model, opened, want, name=name, source=source, batch=batch, members=members)
    total = len(opened)
    budget = Budget(max_bad, lost=opened.lost, whole="in all", total=total)
    work = Work(model, want, opened.members, batch, workers, budget, lambda n: None)
    run = Run(plan, out, opened.urls, work, progress)
    try:
        return run.go(begin)
    finally:
        opened.close()


class Run:
    """One process's share of a set.

    Args:
        places: the source shards, in the plan's order.
    """

    def __init__(
        self,
        plan: Plan,
        out: Path,
        places: Sequence[Location],
        work: Work,
        progress: Callable[[int, int], None] | None = None,
    ):
        self.plan, self.out, self.places, self.work, self.progress = plan, out, list(places), work, progress
        self.total = sum(shard["samples"] for shard in plan.shards)
        self.folder = work_folder(out, plan.name)
        self.claims = Claims(self.folder)
        self.left = list(range(len(self.places)))
        self.here = 0  # samples of the part that this process is writing
        work.advance = self._advance

    def go(self, begin: float = 0.0) -> Written:
        """Write the parts that are left, wait for those of others, and finish the set."""
        finished = check_cache(self.plan, self.out)
        self.left = [i for i in self.left if not self._is_there(i)]
        made = 0
        if self.left or not finished:
            self._agree()
            made = self._write_parts(begin)
            self._finish()
        counts: dict[str, int] = {}
        for bad in self._bad():
            counts[bad.reason] = counts.get(bad.reason, 0) + 1
        return Written(len(self.places), made, self.total, dict(sorted(counts.items())))

    def _agree(self) -> None:
        """Write the plan, or check that the plan that is there is the same. A plan without any part gives way."""
        path = self.folder / PLAN
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            with self.claims.hold("plan") as ours:
                if not ours:
                    time.sleep(POLL / 10)
                    continue
                known = read_json(path) if path.is_file() else None
                begun = len(self.left) < len(self.places) or any(self.folder.glob("part-*.claim"))
                if known is not None and begun:
                    where = f"{self.out / self.plan.name} was begun"
                    check_same(known["set"], self.plan.about, where, "--name or --out, or remove that folder")
                elif begun and known is None and not self._is_listed():
                    raise ValueError(
                        f"{self.out / self.plan.name} has parts without a plan; remove it, or name another --name"
                    )
                write_json(path, self.plan.content())
                return

    def _is_listed(self) -> bool:
        path = self.out / FILE
        return path.is_file() and self.plan.name in read_json(path)["sets"]

    def _write_parts(self, begin: float) -> int:
        """Write parts until all are there, and return how many this process wrote."""
        made, known = 0, self._known_checksums()
        while self.left:
            first = int(begin * len(self.places))
            moved = False
            for i in sorted(self.left, key=lambda i: (i - first) % len(self.places)):
                if self._is_there(i):
                    self.left.remove(i)
                    continue
                with self.claims.hold(f"part-{self.places[i].name}") as ours:
                    if not ours:
                        continue
                    if not self._is_there(i):
                        self.here = 0
                        with suppress(FileNotFoundError):
                            write_part(self.work, self.places[i], self.out, self.plan.name, known.get(i))
                            made += 1
                self.left.remove(i)
                moved = True
                self.here = 0
            if self.left and not moved:
                self._advance(0)
                time.sleep(POLL)
        self._advance(0)
        return made

    def _known_checksums(self) -> dict[int, str]:
        path = self.out / FILE
        return dict(enumerate(shard["sha256"] for shard in read_json(path)["shards"])) if path.is_file() else {}

    def _finish(self) -> None:
        """Check that all parts are there, and name the set in ``cache.json``."""
        records = [read_record(part_path(self.out, self.plan.name, place.name)) for place in self.places]
        budget = Budget(self.work.budget.max_bad, whole="in all", total=self.total)
        budget.add(self._bad(), self.total)
        budget.end_epoch()
        shards = [
            {"name": shard["name"], "sha256": record.source, "samples": shard["samples"], "keys": shard["keys"]}
            for shard, record in zip(self.plan.shards, records, strict=True)
        ]
        while True:
            with self.claims.hold("cache") as ours:
                if ours:
                    check_cache(self.plan, self.out)
                    path = self.out / FILE
                    content = read_json(path) if path.is_file() else {"schema": schema, "shards": shards, "sets": {}}
                    content["sets"] = dict(sorted({**content["sets"], self.plan.name: self.plan.about}.items()))
                    write_json(path, content)
                    break
            time.sleep(POLL / 10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_there(self, i: int) -> bool:
        try:
            read_record(part_path(self.out, self.plan.name, self.places[i].name))
        except (FileNotFoundError, ValueError):
            return False
        return True

    def _bad(self) -> Any:
        """Yield the bad members of all parts, by their positions in the whole set."""
        first = 0
        for place, shard in zip(self.places, self.plan.shards, strict=True):
            part = part_path(self.out, self.plan.name, place.name)
            for bad in read_bad(part, read_record(part)):
                yield bad._replace(position=first + bad.position)
            first += shard["samples"]

    def _advance(self, n: int) -> None:
        self.here += n
        if self.progress is not None:
            left = sum(self.plan.shards[i]["samples"] for i in self.left)
            self.progress(self.total - left + self.here, self.total)
