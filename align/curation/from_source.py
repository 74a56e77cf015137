"""Shards built from one source, a function for each kind: a table, a folder, shards of another make, a program."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from align.curation.cut.copying import check_keys, check_output
from align.curation.jobs.job import Job, plan_job
from align.curation.jobs.production import make_and_count
from align.curation.sources.folder import Folder
from align.curation.sources.foreign import plan_samples
from align.curation.sources.given import Given, is_keyed
from align.curation.sources.table import Table
from align.data.names import MemberNames
from align.data.shards import Shards


def build_table(table: Table, job: Job) -> dict[str, int]:
    """Build shards of a table. Raises ValueError where no row has a cell of a modality."""
    sizes = array("q", (sample.size for sample in table.samples()))  # every row is looked at before any is written
    if not sizes:
        raise ValueError(f"{table.path}: no row has a cell of {', '.join(table.modalities)}")
    header = {"table": str(table.path.resolve()), **table.sampling._asdict()}
    return make_and_count([plan_job(job, table.samples(), sizes, header)], table.without)


def build_folder(tree: Folder, job: Job) -> dict[str, int]:
    """Build shards of a tree of folders, one job for each split."""
    jobs, left = [], 0
    splits = tree.splits()
    for name, root in (splits or {job.split: tree.path}).items():
        plan = list(tree.samples(root, f"{name}/" if splits else ""))
        classes = {"label": names} if (names := [folder.name for folder in tree.classes(root)]) else {}
        header = {"folder": str(root.resolve()), **tree.sampling._asdict(), "classes": classes}
        sizes = [sample.size for sample in plan]
        left += tree.unknown
        jobs.append(plan_job(replace(job, split=name, classes=classes), plan, sizes, header))
    return make_and_count(jobs, left)


def build_shards(sources: Mapping[str, str | list[str]], job: Job, members: MemberNames | None) -> dict[str, int]:
    """Build shards of shards of another make: name of a split -> patterns.

    Raises ValueError where no sample has a member of a modality.
    """
    jobs, left, ignored = [], 0, 0
    for name, urls in sources.items():
        shards = Shards(urls, shuffle=False, members=members)
        check_output(job.out, [shards])
        check_keys(shards)
        sizes = array("q", (sample.size for sample in plan_samples(shards)))
        if not sizes:
            raise ValueError(f"{shards.urls[0]}: no sample has a member of {', '.join(shards.members)}; see members")
        manifest = shards.manifest or {}
        header = {
            "shards": [str(url) for url in shards.urls],
            "members": shards.members,
            **job.state.sampling._asdict(),
        }
        one = replace(
            job,
            split=name,
            state=job.state._replace(shards=shards),
            lost=shards.lost,
            chunk=4 if shards.block == 1 else 64,  # neighbours come in one request
            classes=manifest.get("classes") or None,
            licence=job.licence if job.licence is not None else manifest.get("licence"),
        )
        left += len(shards) - len(sizes)
        ignored += sum(shards.ignored.values())
        jobs.append(plan_job(one, plan_samples(shards), sizes, header))
    return {**make_and_count(jobs, left), **({"ignored": ignored} if ignored else {})}


def build_program(samples: Iterable[Any], job: Job, table: Callable[..., Table]) -> dict[str, int]:
    """Build shards of samples, or of rows of a table, as a program gives them. Raises ValueError for none."""
    job = replace(job, total=len(samples) if isinstance(samples, Sized) else None)
    stream = iter(samples)
    try:
        first = next(stream)
    except StopIteration:
        raise ValueError("the source gives no samples") from None
    stream = chain([first], stream)
    rows = isinstance(first, Mapping) and not is_keyed(first)
    source = table(Path("samples"), rows=stream) if rows else Given(stream, job.state.sampling, job.state.media)
    header = {"program": True, **job.state.sampling._asdict()}
    written = make_and_count([plan_job(job, source.samples(), None, header)], 0)
    return {**written, "left out": written["left out"] + source.without}  # counted while it was read
