"""Shards built from a table, a tree of folders, shards of another make, or a program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from align.curation.from_source import build_folder, build_program, build_shards, build_table
from align.curation.jobs.job import Job, Progress
from align.curation.members.files import Sampling
from align.curation.members.grouping import By
from align.curation.members.prepared import Making, prepare
from align.curation.sources.folder import Folder
from align.curation.sources.foreign import may_write, splits
from align.curation.sources.table import MODALITIES, Table
from align.data.archive.writer import check_name
from align.data.names import TABLES
from align.media import MEDIA, Media
from align.media.cloud import MAX_POINTS
from align.media.recode import Recode

SCHEMA = 2
"""Version of the bytes that the options of ``build`` give. A build that another version began is not continued."""


def build(
    source: str | Path | Iterable[Any] | Callable[[], Iterable[Any]],
    out: str | Path,
    *,
    split: str = "train",
    per_shard: int = 1000,
    modalities: Sequence[str] = MODALITIES,
    columns: Mapping[str, str] | None = None,
    literal: Sequence[str] = ("text",),
    template: Sequence[str] = ("{}",),
    points: int = 4096,
    seed: int = 0,
    licence: str | None = None,
    progress: Progress | None = None,
    shard_mb: float | None = None,
    members: Mapping[str, Sequence[str]] | None = None,
    recode: Recode | None = None,
    workers: int = 0,
    resume: bool = True,
    max_bad: float = 0.001,
    group: str | None = None,
    separator: str | None = None,
    media: Media = MEDIA,
) -> dict[str, int]:
    """Build shards in ``out`` and return how many samples each split has.

    The result also counts "left out" (samples without any row, files of unknown suffix) and, where there are any,
    members that are "bad", "blank" (captions without a word, which become holes), "regions" (entries without a good box
    or a text, which are written), "misnamed" (no shard may hold their name), "ignored" (no modality reads them) and
    "noted". A noted member is written with a remark: a picture that uses a small part of its range, or a cloud that
    lost the points that were not finite.

    Every file is looked for before the first shard is written. Media are stored byte for byte unless ``recode`` says
    otherwise. Meshes and scans become clouds, of ``points`` points where there is a surface. Clouds and arrays are
    judged as a check judges them. Pictures and sounds that are stored unchanged are not decoded. The same input,
    options and seed give the same bytes, whatever the number of workers. The same call resumes a build that was
    killed: finished shards are kept, and a shard gets its name only when it is complete.

    Args:
        source: one of four. A .csv, .tsv, .jsonl or .parquet table with a column per modality (see ``Table``). A folder
            of classes, of splits or of files (see ``Folder``). A WebDataset (a .tar, a pattern of them, or a folder of
            them), whose members are renamed as ``members`` says. Samples from a generator, a function that makes one,
            or a list: ``(key, {"image.jpg": bytes, "text.txt": "a cat", "json": {...}})`` (see ``Given``), or rows of
            a table.
        split: name of the shards where the source has no splits of its own.
        per_shard, shard_mb: samples and 10^6 bytes that a shard holds at most. There are as few shards as these limits
            allow, of equal size. Where sizes are not known beforehand (a generator, or ``recode`` with ``shard_mb``) a
            shard is closed when it reaches a limit.
        members: modality -> names in a WebDataset, as in ``{"text": ["json:caption", "txt"]}``.
        recode: formats that media are converted to.
        workers: processes that read and re-encode, 0 for this one.
        resume: False starts anew where a killed build could be continued.
        max_bad: share of samples with an unreadable member above which the build stops. Such a member is left out, and
            its sample too where no modality is left. ``OUT/SPLIT-bad.jsonl`` lists it, as it lists blank captions and
            misnamed members, which do not count.
        group: rule for groups, whose samples are never each other's negatives: "label", "caption" (equal captions) or
            a column of the table. None: groups that the source states. A folder groups samples whose caption the
            template made of their class.
        separator: character between the cells of a .csv or .tsv.
        media: that files and members are read by. The modality of one that is not ours is a column of a table too.

    Raises FileNotFoundError for a file that is missing and ValueError for input that no shard can hold, both with the
    row or the sample, and TooManyBad over the budget.
    """
    if per_shard < 1 or (shard_mb is not None and shard_mb <= 0):
        raise ValueError(f"per_shard={per_shard}, shard_mb={shard_mb}: a shard holds at least one sample")
    check_name(split)
    if workers < 0 or not 0 <= max_bad <= 1:
        raise ValueError(
            f"workers={workers}, max_bad={max_bad}: workers are at least 0, max_bad is a share from 0 to 1"
        )
    if not 1 <= points <= MAX_POINTS:
        raise ValueError(f"points={points}: from 1 to the {MAX_POINTS:,} that are read again")
    if Path(out).exists() and not Path(out).is_dir():
        raise NotADirectoryError(f"{out} is a file; name a folder for the shards")
    for name in members or {}:
        if name != "label" and not may_write(f"{name}.x"):
            raise ValueError(f"members: {name!r} cannot name a modality: lower case letters, digits, _ and - do")
    by: By | None = group if group in ("label", "caption") else None
    recode = recode or Recode()
    others = [medium for medium in media if medium not in MEDIA]
    limit = None if shard_mb is None else round(shard_mb * 1e6)
    header = {
        "schema": SCHEMA,
        "per_shard": per_shard,
        "shard_bytes": limit,
        "recode": recode.settings(),
        "group": group,
        **({"media": [type(medium).__qualname__ for medium in others]} if others else {}),
    }
    sampling = Sampling(points, seed)
    modalities = (*modalities, *(m.modality for m in others if m.modality and m.modality not in modalities))
    job = Job(
        Path(out),
        split,
        prepare,
        Making(None, recode, sampling, by, media),
        items=(),
        header=header,
        per_shard=per_shard,
        shard_bytes=limit,
        licence=licence,
        workers=workers,
        resume=resume,
        max_bad=max_bad,
        progress=progress,
    )
    table = partial(
        Table,
        modalities=modalities,
        columns=columns,
        literal=literal,
        sampling=sampling,
        media=media,
        group=group if by is None else None,
        separator=separator,
    )
    if by is None and group is not None and not _is_table(source):
        raise ValueError(f"group={group!r}: only a table has columns; it is label or caption here")
    if not isinstance(source, str | Path):
        return build_program(source() if callable(source) else source, job, table)
    path = Path(source)
    if (path.suffix == ".tar" and not path.is_dir()) or "://" in str(source):
        return build_shards({split: str(source)}, job, members)
    if not path.exists():
        raise FileNotFoundError(f"no table or folder {path}")
    if not path.is_dir():
        return build_table(table(path), job)
    if found := splits(path):
        return build_shards({name or split: [str(p) for p in paths] for name, paths in found.items()}, job, members)
    template = [text for text in template if text]
    return build_folder(Folder(path, template=template, sampling=sampling, media=media), job)


def _is_table(source: Any) -> bool:
    """Return True for a source that may give rows of a table."""
    return not isinstance(source, str | Path) or Path(source).suffix.lower() in TABLES
