"""The samples of shards as records: files on the disk, captions, labels, embeddings and zero-shot labels.

A record is a line of JSON in the work folder, so that a tool's own file can be written when all samples are known.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypedDict, final

import numpy as np

from align.convert.labelling.answers import Questions
from align.convert.labelling.media import Kind, find_kinds, write_files
from align.data import Shards
from align.data.labels import attributes
from align.embedding import Progress, embed_batches, first_rows
from align.embedding.embed import check_finite
from align.embedding.features.plan import choose_towers
from align.evaluation.labels import spell_labels
from align.files import json_text
from align.model import JointModel
from align.search.building.entry import captions, clean
from align.values import Embeddings, Sample

RECORDS = ".records.jsonl"  # it goes before the folder gets its name


class Record(TypedDict):
    """A sample. files: modality -> path. vectors: modality -> base64 of (D,) float32, little endian.

    answers: [attribute, modality, label, confidence or None] of each zero-shot label.
    """

    key: str
    shard: str
    captions: list[str]
    labels: dict[str, list[str]]
    files: dict[str, str]
    vectors: dict[str, str]
    answers: list[tuple[str, str, str, float | None]]


@final
@dataclass
class Facts:
    """Properties of all records.

    Args:
        samples: records that were written.
        without: samples that were read and left out, because the tool shows none of their members.
        classes: attribute -> the classes that the shards state, then other labels of the samples.
        several: attributes of which a sample has several labels.
        bad: reasons of files that could not be written, counted.
        beside: modality -> members that were left out beside the first one of their sample.
        counts: bad members and samples by reason, as a cache counts them.
    """

    samples: int = 0
    without: int = 0
    classes: dict[str, list[str]] = field(default_factory=dict)
    several: set[str] = field(default_factory=set)
    bad: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    counts: Mapping[str, int] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Reading:
    """The model, the open shards, and how they are read."""

    model: JointModel
    shards: Shards
    towers: Sequence[str]
    batch: int
    workers: int
    progress: Progress | None

    @property
    def kinds(self) -> dict[str, Kind]:
        """Modality -> the kind of its files."""
        return find_kinds({name for index in self.shards.indexes for name in index.names}, self.shards.members)

    def batches(self) -> Iterator[Embeddings]:
        """Yield the embeddings of each batch. Raises ValueError for one that is not finite, and TooManyBad."""
        how: dict[str, Any] = {"modalities": self.towers, "progress": self.progress}
        for piece in embed_batches(self.model, self.shards, self.batch, self.workers, **how):
            check_finite(piece)
            yield piece


def open_reading(
    model: JointModel,
    shards: str | Path | Sequence[str | Path],
    *,
    towers: Sequence[str] | None,
    members: Mapping[str, Sequence[str]] | None,
    max_bad: float,
    batch: int,
    workers: int,
    progress: Progress | None,
) -> Reading:
    """Open shards. Raises as ``Shards`` does, and ValueError for a tower that the model or the shards do not have."""
    opened = Shards(shards, shuffle=False, members=members, max_bad=max_bad)
    return Reading(model, opened, choose_towers(model, opened, towers), batch, workers, progress)


def write_records(
    reading: Reading,
    work: Path,
    folders: Mapping[str, Path],
    keep: Callable[[Record], bool],
    *,
    vectors: bool,
) -> Facts:
    """Write the files of all samples and a record of each, batch by batch, and return the facts.

    folders: modality -> the folder of its files. keep: False for a record to leave out. vectors: keep the embeddings.
    """
    shards, facts = reading.shards, Facts()
    facts.classes = {attribute: [*map(str, names)] for attribute, names in shards.classes.items()}
    questions = Questions(reading.model, facts.classes)
    with (work / RECORDS).open("w", encoding="utf-8") as out:
        for piece in reading.batches():
            answers, rows = questions.answer(piece), _rows(piece) if vectors else {}
            labels = spell_labels(piece.labels, shards.classes)
            for i, key in enumerate(piece.ids):
                if not key:
                    continue
                sample = shards.read(int(piece.position[i]), 0, stride=0)[0]
                record: Record = {
                    "key": key,
                    "shard": str(sample["__url__"]).rpartition("/")[2],
                    "captions": captions(sample, shards.members),
                    "labels": _labels(labels[i]),
                    "files": {},
                    "vectors": {m: table[i] for m, table in rows.items() if i in table},
                    "answers": [(*where, *answer) for where, answer in sorted(answers[i].items())],
                }
                _finish(record, sample, out, work, folders, keep, facts, shards)
    facts.counts = shards.report()
    if not facts.samples:
        raise ValueError("none of the samples has a member that can be shown")
    return facts


def _finish(
    record: Record,
    sample: Sample,
    out: IO[str],
    work: Path,
    folders: Mapping[str, Path],
    keep: Callable[[Record], bool],
    facts: Facts,
    shards: Shards,
) -> None:
    """Write the files of a sample and its record, and count it."""
    from align.convert.labelling.media import find_files

    record["files"], bad = write_files(sample, shards.members, folders, work)
    facts.bad.update(bad)
    if not keep(record):
        for path in record["files"].values():
            (work / path).unlink()
        facts.without += 1
        return
    names = [name for name in sample if not name.startswith("__")]
    facts.beside.update({m: f.number for m, f in find_files(names, shards.members).items() if m in folders and f.number})
    for attribute, values in record["labels"].items():
        known = facts.classes.setdefault(attribute, [])
        known += [value for value in values if value not in known]
        if len(values) != 1:
            facts.several.add(attribute)
    out.write(json_text(clean(record)) + "\n")
    facts.samples += 1


def read_records(work: Path) -> Iterator[Record]:
    """Yield the records of a work folder, in the order of the shards, and remove their file after the last."""
    with (work / RECORDS).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
    (work / RECORDS).unlink()


def _labels(label: Any) -> dict[str, list[str]]:
    found = attributes(label)
    return {str(name): [str(x) for x in (v if isinstance(v, list | tuple) else [v])] for name, v in found.items()}


def _rows(piece: Embeddings) -> dict[str, dict[int, str]]:
    """Return modality -> sample -> the base64 of its first row, as float32."""
    found: dict[str, dict[int, str]] = {}
    for modality in piece:
        query, samples = first_rows(piece, [modality])
        rows = query[modality].float().numpy().astype("<f4") if len(samples) else np.zeros((0, 1), "<f4")
        texts = (base64.b64encode(row.tobytes()).decode() for row in rows)
        found[modality] = dict(zip(samples.tolist(), texts, strict=True))
    return found


def name_field(text: str) -> str:
    """Return a part of a field's name: letters, digits and _.

    >>> name_field("size (cm)")
    'size_cm'
    """
    import re

    return re.sub(r"\W+", "_", text).strip("_") or "_"


def name_fields(names: Sequence[str]) -> dict[str, str]:
    """Return attribute -> the name of its labels' field: ``label`` for a plain label, else ``label_ATTRIBUTE``.

    Raises ValueError where two attributes get one name.
    """
    found = {name: "label" if name == "label" else f"label_{name_field(name)}" for name in names}
    if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
        both = " and ".join(repr(name) for name in names if found[name] == twice[0])
        raise ValueError(f"the attributes {both} would both be the field {twice[0]}; rename one of them")
    return found
