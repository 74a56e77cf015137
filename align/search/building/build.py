"""An index made of shards or of a folder of files, or brought up to them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from align.data import Shards
from align.data.bad import Budget, is_fault
from align.model import JointModel
from align.search.building.changes import Changes, compare, positions_of
from align.search.building.embed import Progress, embed_into
from align.search.building.fill import Filled, blocks_of, fill
from align.search.building.maker import check_maker, describe_maker, staging_key
from align.search.building.place import kind_of, put_in_place, remove_left
from align.search.building.roots import check_root, name_root, note_root, root_of
from align.search.building.staging import Block, Staging, hold_index, staging_place
from align.search.building.stock import Options, Stock, of_folder, of_shards, tell
from align.search.local import LocalIndex
from align.values import Embeddings

Samples = str | Path | Sequence[str | Path] | Shards


@final
@dataclass(frozen=True)
class Work:
    """Settings of the embedding, on which no row depends.

    max_bad: share of samples with something unreadable above which no index is made. device: None: the model's.
    progress: called with (samples done, samples in all).
    """

    batch: int = 64
    workers: int = 0
    max_bad: float = 0.001
    allow_pipe: bool = False
    device: torch.device | None = None
    progress: Progress | None = None


EVERYTHING, USUAL = Options(), Work()


@final
@dataclass
class Report:
    """The result of a build.

    made: "built" (a new index), "refreshed" or "unchanged". changes: portions. kind: "shard", or "sample" where a
    portion is the files of one.
    resumed: samples that an earlier build had embedded. samples, modalities: in the index.
    bad: counts by reason. left: (suffix, reason) -> files of a folder that are in no sample. advice: how the first of
    them that could be converted becomes one that is read.
    """

    folder: Path
    made: str
    changes: Changes
    kind: str = "shard"
    resumed: int = 0
    filled: Filled = field(default_factory=Filled)
    samples: int = 0
    modalities: Mapping[str, int] = field(default_factory=dict)
    bad: Mapping[str, int] = field(default_factory=dict)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    advice: str = ""


def build_index(
    model: JointModel,
    samples: Samples,
    out: str | Path,
    *,
    source: str,
    options: Options = EVERYTHING,
    work: Work = USUAL,
    anew: bool = False,
    embeddings: Embeddings | None = None,
) -> Report:
    """Build an index, or bring one up to its shards or its folder.

    The index appears whole, or not at all. Blocks of embeddings stand in a folder beside it until then, and the same
    call goes on from them. An index that is there gets what is new and has changed in the same source, and loses what
    is gone. Samples that were deleted stay deleted until their shard or file changes. An index of version 1 is
    replaced.

    Args:
        samples: shards (paths, patterns, URLs, or opened without a shuffle), or a folder of files.
        out: the folder of the index.
        source: the model's name, by which ``align.open_index`` loads it: an absolute path, a hub id or LAYOUT:SOURCE.
        options: modalities, labels and member names.
        anew: replace an index that is there, whatever it is of.
        embeddings: of these shards, which are then not embedded again.

    Raises ValueError where something else stands at ``out``, where the index there is of another model or of other
    samples, and where the model embeds nothing of them. Raises TooManyBad, and OSError on a full disk.
    """
    out = _real(out)
    maker = describe_maker(model, source)
    old = kind_of(out) == "index" and not anew
    if old:
        check_maker(_read_known(out)[1], maker, out)
    stock = open_stock(model, samples, options, work)
    with hold_index(out):
        remove_left(out)
        known, about = _read_known(out) if old else ({}, {})
        if old:
            check_maker(about, maker, out)
            check_root(about.get("sources", ()), stock.root, out)
        key = staging_key(maker)
        return _bring_up(model, stock, out, options, maker, key, work, known, about, embeddings)


def add_to_index(
    model: JointModel,
    samples: Samples,
    out: str | Path,
    *,
    options: Options = EVERYTHING,
    work: Work = USUAL,
) -> Report:
    """Add shards or a folder to an index. What is there unchanged is passed over.

    A shard or a file that has changed replaces its samples. Samples whose files are gone from a folder that was indexed
    before are removed. See ``build_index``.

    Raises FileNotFoundError where there is no index.
    """
    out = _real(out)
    check_index(out)
    maker = describe_maker(model, "this one")
    check_maker(_read_known(out)[1], maker, out)
    stock = open_stock(model, samples, options, work)
    with hold_index(out):
        remove_left(out)
        known, about = _read_known(out)
        check_maker(about, maker, out)
        return _bring_up(model, stock, out, options, {}, staging_key(maker), work, known, about, None)


def check_index(out: Path) -> None:
    """Raise FileNotFoundError where there is no index, ValueError for one that cannot be changed."""
    kind = kind_of(out)
    if kind == "new":
        raise FileNotFoundError(
            f"no index in {out}; make one with: align index build MODEL SHARDS|FOLDER --out {shlex.quote(str(out))}"
        )
    if kind == "version 1":
        raise ValueError(f"{out} has version 1, which is only read; `align index build` makes it anew")


def open_stock(model: JointModel, samples: Samples, options: Options, work: Work) -> Stock:
    """Return the samples of shards or of a folder. Raises as ``Shards``, and where the model embeds nothing of them."""
    root = root_of(_names(samples))
    if "folder" in root:
        return of_folder(Path(root["folder"]), model, options)
    if not isinstance(samples, Shards):
        names = [samples] if isinstance(samples, str | Path) else list(samples)
        samples = Shards(names, shuffle=False, members=options.members, max_bad=1, allow_pipe=work.allow_pipe)
    if not len(samples):
        raise ValueError(f"{name_root(root)} has no samples")
    return of_shards(samples, model, options, root)


def _bring_up(
    model: JointModel,
    stock: Stock,
    out: Path,
    options: Options,
    maker: Mapping[str, Any],
    key: Mapping[str, Any],
    work: Work,
    known: Mapping[str, Mapping[str, Any]],
    about: Mapping[str, Any],
    embeddings: Embeddings | None,
) -> Report:
    changes = compare(stock, known)
    report = Report(out, "unchanged", changes, "sample" if "folder" in stock.root else "shard")
    report.left, report.advice = stock.left, stock.advice
    staging = Staging(staging_place(out), key)
    if not about or changes.todo or changes.gone or changes.moved:
        if embeddings is None:
            report.resumed, budget = _embed(staging, model, stock, changes, work)
            report.bad = budget.counts
            blocks: Iterable[Block] = staging.blocks()
        else:
            blocks = blocks_of(embeddings, _as_shards(stock), stock)
        told = {**maker, "sources": note_root(about.get("sources", ()), stock.root, options.plain())}
        if about:
            with LocalIndex.open(out, write=True) as index, index.change() as change:
                report.filled = fill(change, stock, changes, blocks, known)
                change.about(**told)
        else:
            with put_in_place(out) as folder:
                with LocalIndex.create(folder, maker) as index, index.change() as change:
                    report.filled = fill(change, stock, changes, blocks, known)
                    change.about(**told)
                if not report.filled.added:
                    raise ValueError(_explain_nothing(stock, report.bad))
        staging.clear()
        report.made = "built" if not about else "refreshed" if any(report.filled[:2]) or changes.gone else "unchanged"
    elif {segment.portion for segment in staging.seen} <= set(map(tell, stock.portions)):
        staging.clear()  # of a build that was killed after its change
    with LocalIndex.open(out) as index:
        report.samples, report.modalities = index.count(), dict(index.modalities)
    return report


def _embed(staging: Staging, model: JointModel, stock: Stock, changes: Changes, work: Work) -> tuple[int, Budget]:
    """Embed all portions to do into the staging. Returns the samples that were there already, and the bad ones."""
    resumed: list[int] = []

    def say(done: int, total: int) -> None:
        resumed.append(done) if not resumed else None
        if work.progress is not None:
            work.progress(done, total)

    positions = positions_of(stock, changes.todo)
    if len(positions) and work.device is not None:
        model = model.to(work.device)
    budget = embed_into(
        staging,
        model,
        stock,
        positions,
        batch=work.batch,
        workers=work.workers,
        max_bad=work.max_bad,
        progress=say,
    )
    return resumed[0] if resumed else 0, budget


def _read_known(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    with LocalIndex.open(out) as index:
        return dict(index.sources()), dict(index.about)


def _explain_nothing(stock: Stock, bad: Mapping[str, int]) -> str:
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(bad.items()) if is_fault(reason))
    n = sum(portion.n for portion in stock.portions)
    return f"none of the {n} samples of {stock.name} could be embedded ({reasons or 'no row'}); no index was made"


def _as_shards(stock: Stock) -> Shards:
    if not isinstance(stock.reading, Shards):
        raise ValueError("embeddings that are made already are of shards, not of a folder of files")
    return stock.reading


def _names(samples: Samples) -> str | Path | Sequence[str | Path]:
    return list(map(str, samples.urls)) if isinstance(samples, Shards) else samples


def _real(out: str | Path) -> Path:
    """Return the folder itself where ``out`` is a link to it."""
    out = Path(out)
    return out.resolve() if out.is_symlink() else out
