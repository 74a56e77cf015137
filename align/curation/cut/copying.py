"""Copying of samples from shards into other shards, member for member and byte for byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from align.curation.jobs.balance import balance
from align.curation.jobs.job import Fault, Job, Made, Progress
from align.curation.jobs.production import make
from align.curation.sources.foreign import mark, may_write, refusal, walk
from align.data.archive.coverage import count_repeated
from align.data.archive.writer import check_name
from align.data.meta import read_meta
from align.data.names import CODE
from align.data.places.urls import Location
from align.data.shards import Shards


class Copied(NamedTuple):
    """A sample to write again under ``key``.

    number: index of its set. about: its new json, None to keep the old one. pickles: members that are never read.
    added: members beside its own.
    """

    key: str
    number: int
    position: int
    mark: str
    pickles: tuple[str, ...]
    about: bytes | None = None
    added: tuple[tuple[str, bytes], ...] = ()


def plan_copies(shards: Shards, number: int = 0) -> Iterator[Copied]:
    """Yield the samples of a set in the order of its shards. Only the indexes are read."""
    for position, index, i in walk(shards):
        pickles = tuple(name for name in index.members(i) if name.rpartition(".")[2] in CODE)
        yield Copied(index.keys[i], number, position, mark(index, i), pickles)


def copy_sample(sets: Sequence[Shards], item: Copied) -> Made:
    """Return the members of a sample as its shard has them, and its faults.

    A sample with an unreadable member is left out, with the reason: a copy would silently lack that member. A member
    that no shard may hold is left out alone, as member/SUFFIX.
    """
    sample, unread = sets[item.number].read(item.position)
    gone = [bad for bad in unread if bad.member not in sample]
    if gone:
        return {}, [(gone[0].reason, gone[0].member)]
    out: dict[str, bytes] = {}
    bad: list[Fault] = [(refusal(name), name) for name in item.pickles]
    for name, data in sample.items():
        if name.startswith("__"):
            continue
        if may_write(name):
            out[name] = data
        else:
            bad.append((refusal(name), name))
    if item.about is not None:
        out["json"] = item.about
    out |= dict(item.added)
    wrong = read_meta(out, {})[1]
    if wrong:
        return {}, [*bad, (wrong[0], "json")]
    return out, bad if out else [*bad, ("sample/empty", "")]


def check_output(out: str | Path, many: Iterable[Shards]) -> Path:
    """Return the folder to write to.

    Raises ValueError for a folder that holds the shards to read, NotADirectoryError for a file.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the shards")
    for shards in many:
        if any(Path(str(url)).parent.resolve() == out.resolve() for url in shards.urls):
            raise ValueError(f"{out} holds the shards to read; write to another folder")
    return out


def check_split(splits: Iterable[str], per_shard: int) -> None:
    """Raise ValueError for a split's name or a number of samples that no shard can have."""
    if per_shard < 1:
        raise ValueError(f"per_shard={per_shard}: a shard holds at least one sample")
    for split in splits:
        check_name(split)


def check_keys(shards: Shards) -> None:
    """Raise ValueError where two shards have a sample of the same key: a set holds no key twice."""
    if not count_repeated(shards.indexes):
        return
    first: dict[str, Location] = {}
    for url, index in zip(shards.urls, shards.indexes, strict=True):
        for key in index.keys if len(index.name) else ():
            if key in first:
                raise ValueError(
                    f"key {key!r} is in {first[key]} and again in {url}; `align shards merge SHARDS --out OUT "
                    "--duplicates rename` makes shards of them with other keys"
                )
            first[key] = url


def divide(
    shards: Shards, part: Sequence[str | None], out: Path, *, per_shard: int, workers: int, progress: Progress | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the sample at each position to the split that ``part`` names, in the order of the shards.

    part: (N,) split of each position, None to leave a sample out. Returns samples per split, and reason -> samples and
    members that could not be copied.
    """
    planned = Counter(name for name in part if name is not None)
    parts = {name: (n, _of(shards, part, name)) for name, n in planned.items()}
    licence = (shards.manifest or {}).get("licence")
    return copy(
        [shards],
        parts,
        out,
        per_shard=per_shard,
        classes=shards.classes,
        licence=licence,
        workers=workers,
        progress=progress,
    )


def _of(shards: Shards, part: Sequence[str | None], name: str) -> Iterator[Copied]:
    return (item for item in plan_copies(shards) if part[item.position] == name)


def copy(
    sets: Sequence[Shards],
    parts: Mapping[str, tuple[int, Iterable[Copied]]],
    out: Path,
    *,
    per_shard: int,
    classes: Mapping[str, Sequence[str]] | None,
    licence: str | None,
    workers: int,
    progress: Progress | None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Write samples of the sets to splits, in shards whose numbers of samples differ by one at most.

    parts: split -> (number of samples, the samples). Returns samples per split, and reason -> samples and members that
    could not be copied, which ``OUT/SPLIT-bad.jsonl`` lists. The next call with the same samples keeps the shards that
    a killed call finished.
    """
    total, before, jobs = sum(n for n, _ in parts.values()), 0, []
    for split, (n, items) in parts.items():
        jobs.append(
            Job(
                out,
                split,
                copy_sample,
                list(sets),
                items,
                header={"schema": 1, "copy": True, "per_shard": per_shard},
                total=n,
                counts=balance([1] * n, per_shard),
                lost=() if jobs else [gone for shards in sets for gone in shards.lost],
                classes=classes,
                licence=licence,
                workers=workers,
                chunk=4 if all(shards.block == 1 for shards in sets) else 64,
                max_bad=1,
                progress=progress and _after(progress, before, total),
            )
        )
        before += n
    written, dropped = {}, Counter[str]()
    for job, (samples, bad) in zip(jobs, make(jobs), strict=True):
        written[job.split] = samples
        dropped.update(bad)
    return written, dict(sorted(dropped.items()))


def _after(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
