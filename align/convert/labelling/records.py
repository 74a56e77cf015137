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
from typing import Any, TypedDict, final

import numpy as np

from align.convert.labelling.answers import Questions
from align.convert.labelling.media import File, Kind, find_files, find_kinds, write_files
from align.data import Shards
from align.data.labels import attributes
from align.embedding import Progress, embed_batches, first_rows
from align.embedding.embed import check_finite
from align.embedding.features.plan import choose_towers
from align.evaluation.labels import spell_labels
from align.files import json_text
from align.model import JointModel
from align.search.building.entry import captions, clean
from align.values import Embeddings

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

    def count(self, record: Record, files: Mapping[str, File]) -> None:
        """Add a record. files: of its sample, by modality."""
        self.samples += 1
        self.beside.update({m: file.number for m, file in files.items() if m in record["files"] and file.number})
        for attribute, values in record["labels"].items():
            known = self.classes.setdefault(attribute, [])
            known += [value for value in values if value not in known]
            if len(values) != 1:
                self.several.add(attribute)


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
    reading: Reading, work: Path, folders: Mapping[str, Path], keep: Callable[[Record], bool], *, vectors: bool
) -> Facts:
    """Write the files of all samples and a record of each, batch by batch, and return the facts.

    A sample is read a second time for its files: the embedding has its tensors alone.

    folders: modality -> the folder of its files. keep: False for a record to leave out. vectors: keep the embeddings.
    Raises ValueError where no record is kept.
    """
    shards, facts = reading.shards, Facts()
    facts.classes = {attribute: [*map(str, names)] for attribute, names in shards.classes.items()}
    questions = Questions(reading.model, facts.classes)
    with (work / RECORDS).open("w", encoding="utf-8") as out:
        for piece in reading.batches():
            for i, record in make_records(piece, questions, shards, vectors=vectors):
                sample = shards.read(int(piece.position[i]), 0, stride=0)[0]
                record["captions"] = captions(sample, shards.members)
                record["files"], bad = write_files(sample, shards.members, folders, work)
                facts.bad.update(bad)
                if keep(record):
                    names = [name for name in sample if not name.startswith("__")]
                    facts.count(record, find_files(names, shards.members))
                    out.write(json_text(clean(record)) + "\n")
                else:
                    facts.without += 1
                    for path in record["files"].values():
                        (work / path).unlink()
    facts.counts = shards.report()
    if not facts.samples:
        raise ValueError("none of the samples has a member that can be shown")
    return facts


def make_records(
    piece: Embeddings, questions: Questions, shards: Shards, *, vectors: bool
) -> Iterator[tuple[int, Record]]:
    """Yield the place in the batch and the record of each sample that was embedded, without captions and files."""
    answers, rows = questions.answer(piece), pack_rows(piece) if vectors else {}
    labels = spell_labels(piece.labels, shards.classes)
    for i in (i for i, key in enumerate(piece.ids) if key):
        record: Record = {
            "key": piece.ids[i],
            "shard": piece.source[i].rpartition("/")[2],
            "captions": [],
            "labels": list_labels(labels[i]),
            "files": {},
            "vectors": {m: table[i] for m, table in rows.items() if i in table},
            "answers": [(a, m, one.label, one.confidence) for (a, m), one in sorted(answers[i].items())],
        }
        yield i, record


def read_records(work: Path) -> Iterator[Record]:
    """Yield the records of a work folder, in the order of the shards, and remove their file after the last."""
    with (work / RECORDS).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
    (work / RECORDS).unlink()


def list_labels(label: Any) -> dict[str, list[str]]:
    """Return attribute -> the names of its labels."""
    found = attributes(label)
    return {str(name): [str(x) for x in (v if isinstance(v, list | tuple) else [v])] for name, v in found.items()}


def pack_rows(piece: Embeddings) -> dict[str, dict[int, str]]:
    """Return modality -> sample -> the base64 of its first row, as float32."""
    found: dict[str, dict[int, str]] = {}
    for modality in piece:
        query, samples = first_rows(piece, [modality])
        rows = query[modality].float().numpy().astype("<f4") if len(samples) else np.zeros((0, 1), "<f4")
        texts = (base64.b64encode(row.tobytes()).decode() for row in rows)
        found[modality] = dict(zip(samples.tolist(), texts, strict=True))
    return found
