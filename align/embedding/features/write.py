"""Writing of a set of a cache, by any number of processes that share a file system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from align.data import Shards
from align.data.bad import Budget
from align.embedding.features.encode import Want
from align.embedding.features.part import Work
from align.embedding.features.plan import choose_towers, make_plan
from align.embedding.features.run import Run, Written
from align.model import JointModel


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
        source: the model, as ``align.load`` takes it, for readers of the cache.
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
    run = open_run(
        model,
        shards,
        out,
        name=name,
        source=source,
        features=features,
        tokens=tokens,
        dtype=dtype,
        towers=towers,
        members=members,
        max_bad=max_bad,
        batch=batch,
        workers=workers,
        progress=progress,
    )
    if run.finished:
        return run.finish()
    run.agree()
    return run.finish(run.write_all(begin))


def open_run(
    model: JointModel,
    shards: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    name: str,
    source: str,
    features: bool,
    tokens: bool,
    dtype: str,
    towers: Sequence[str] | None,
    members: Mapping[str, Sequence[str]] | None,
    max_bad: float,
    batch: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Return this process's share of a set, of which nothing is written yet. The arguments are ``write_cache``'s."""
    opened = Shards(shards, shuffle=False, members=members, max_bad=max_bad)
    try:
        want = Want(choose_towers(model, opened, towers), "features" if features else "embedding", tokens, dtype)
        plan = make_plan(model, opened, want, name=name, source=source, batch=batch, members=members)
        budget = Budget(max_bad, lost=opened.lost, whole="in all", total=len(opened))
        work = Work(model, want, opened.members, batch, workers, budget)
        return Run(plan, Path(out), opened.urls, work, lost=opened.lost, progress=progress)
    finally:
        opened.close()
