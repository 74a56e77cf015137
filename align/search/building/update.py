"""An index brought up to a stock: new samples are embedded, and one change at the end puts everything in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from align.data import Shards
from align.data.bad import Budget, is_fault
from align.embedding.tables import tensor_of
from align.model import JointModel
from align.search.building.changes import Changes, compare, positions_of
from align.search.building.embed import embed_into
from align.search.building.fill import Filled, blocks_of, fill
from align.search.building.place import put_in_place
from align.search.building.report import Report, Work
from align.search.building.roots import note_root
from align.search.building.staging import Block, Staging, staging_place
from align.search.building.stock import Options, Stock, tell
from align.search.local import LocalIndex
from align.search.makers import cut_rows, find_dims, read_maker
from align.values import Embeddings


class There(NamedTuple):
    """The index that is there: place -> its mark, and its ``about``. Both are empty for a new one."""

    known: Mapping[str, Mapping[str, Any]] = {}
    about: Mapping[str, Any] = {}


def read_there(out: Path) -> There:
    """Return the facts of an index that a build compares with."""
    with LocalIndex.open(out) as index:
        return There(dict(index.sources()), dict(index.about))


def update(
    model: JointModel,
    stock: Stock,
    out: Path,
    there: There,
    key: Mapping[str, Any],
    told: Mapping[str, Any],
    options: Options,
    work: Work,
    embeddings: Embeddings | None = None,
) -> Report:
    """Bring an index up to a stock, or make it.

    key: ties the staged blocks to the model. told: entries of ``about``, beside the sources.
    Raises ValueError where a new index would be empty.
    """
    changes = compare(stock, there.known)
    report = Report(out, "unchanged", changes, "sample" if "folder" in stock.root else "shard")
    report.left, report.advice = stock.left, stock.advice
    staging = Staging(staging_place(out), key)
    if not there.about or changes.todo or changes.gone or changes.moved:
        if embeddings is None:
            report.resumed, budget = _embed(staging, model, stock, changes, work)
            report.bad = budget.counts
            dims = find_dims(there.about, model)
            blocks: Iterable[Block] = (cut_block(block, dims, model) for block in staging.blocks())
        else:
            blocks = blocks_of(embeddings, _as_shards(stock), stock)
        told = {**told, "sources": note_root(there.about.get("sources", ()), stock.root, options.plain())}
        if there.about:
            with LocalIndex.open(out, write=True) as index:
                later = "" if key["model"] == read_maker(there.about).get("sha256") else str(key["model"])
                report.filled = _write(index, stock, changes, blocks, there, told, later)
        else:
            with put_in_place(out) as folder:
                with LocalIndex.create(folder) as index:
                    report.filled = _write(index, stock, changes, blocks, there, told)
                if not report.filled.added:
                    raise ValueError(_explain_nothing(stock, report.bad))
        staging.clear()
        moved = bool(report.filled.removed or report.filled.added or changes.gone)
        report.made = "built" if not there.about else "refreshed" if moved else "unchanged"
    elif {segment.portion for segment in staging.seen} <= set(map(tell, stock.portions)):
        staging.clear()  # of a build that was killed after its change
    with LocalIndex.open(out) as index:
        report.samples, report.modalities = index.count(), dict(index.modalities)
    return report


def cut_block(block: Block, dims: int | None, model: JointModel) -> Block:
    """Return a block whose rows have the first ``dims`` coordinates alone. None: all."""
    if dims is None:
        return block
    rows = {
        m: r._replace(values=cut_rows(tensor_of(r), dims, normalize=model.normalize)) for m, r in block.rows.items()
    }
    return replace(block, rows=rows)


def _write(
    index: LocalIndex,
    stock: Stock,
    changes: Changes,
    blocks: Iterable[Block],
    there: There,
    told: Mapping[str, Any],
    later: str = "",
) -> Filled:
    with index.change() as change:
        filled = fill(change, stock, changes, blocks, there.known, later)
        change.about(**told)
    return filled


def _embed(staging: Staging, model: JointModel, stock: Stock, changes: Changes, work: Work) -> tuple[int, Budget]:
    """Embed all portions to do into the staging. Returns the samples that were there already, and the bad ones."""
    resumed: list[int] = []

    def say(done: int, total: int) -> None:
        resumed.append(done)
        if work.progress is not None:
            work.progress(done, total)

    positions = positions_of(stock, changes.todo)
    if len(positions) and work.device is not None:
        model = model.to(work.device)
    max_bad = work.max_bad if work.max_bad is not None else (0.1 if "folder" in stock.root else 0.001)
    how = {"batch": work.batch, "workers": work.workers, "max_bad": max_bad}
    again = positions_of(stock, changes.again).tolist()
    budget = embed_into(staging, model, stock, positions, again=again, progress=say, **how)
    return resumed[0], budget


def _explain_nothing(stock: Stock, bad: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(bad.items()) if is_fault(reason))
    n = sum(portion.n for portion in stock.portions)
    return f"none of the {n} samples of {stock.name} could be embedded ({reasons or 'no row'}); no index was made"


def _as_shards(stock: Stock) -> Shards:
    if not isinstance(stock.reading, Shards):
        raise ValueError("embeddings that are made already are of shards, not of a folder of files")
    return stock.reading
