"""Shards from anyone's own files: a table, or a tree of folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from align.data.folder import Folder
from align.data.table import MODALITIES, Planned, Table
from align.data.writer import ShardWriter

Progress = Callable[[int, int], None]


def build(
    source: str | Path,
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
) -> dict[str, int]:
    """Shards in ``out`` from a table or a folder. Returns the number of samples per split, "left out" beside them.

    Every file is looked for before the first shard is written; media are stored byte for byte, meshes as clouds of
    ``points`` points. The same input and seed give the same bytes.

    Args:
        source: a .csv, .tsv, .jsonl or .parquet table with a column per modality (see ``Table``), or a folder of
            classes or of splits (see ``Folder``).
        split: what the shards are called where the source has no splits of its own.

    Raises FileNotFoundError for a file that is missing, ValueError for what cannot be a shard; both name the row.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(f"no table or folder {source}")
    written: dict[str, int] = {}
    if source.is_dir():
        tree = Folder(source, template=[text for text in template if text], points=points, seed=seed)
        for name, root in (tree.splits() or {split: source}).items():
            plan = list(tree.samples(root))
            classes = {"label": [folder.name for folder in tree.classes(root)]}
            written[name] = _write(plan, len(plan), out, name, per_shard, classes, licence, progress)
            written["left out"] = written.get("left out", 0) + tree.unknown
        return written
    table = Table(source, modalities=modalities, columns=columns, literal=literal, points=points, seed=seed)
    total = sum(1 for _ in table.samples())  # everything is looked at before anything is written
    if total == 0:
        raise ValueError(f"{source}: no row has a cell of {', '.join(modalities)}")
    written[split] = _write(table.samples(), total, out, split, per_shard, None, licence, progress)
    return {**written, "left out": table.without}


def _write(
    samples: Iterable[Planned],
    total: int,
    out: str | Path,
    split: str,
    per_shard: int,
    classes: Mapping[str, Sequence[str]] | None,
    licence: str | None,
    progress: Progress | None,
) -> int:
    with ShardWriter(out, split, per_shard=per_shard, classes=classes, licence=licence) as writer:
        for done, (key, members) in enumerate(samples, 1):
            writer.write(key, {member.name: member.read() for member in members})
            if progress is not None:
                progress(done, total)
    return writer.samples
