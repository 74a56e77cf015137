"""The rows of shards as they are stored, for tasks of another library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

from align.convert.harness.batches import KNOWN, OTHER
from align.data import Shards
from align.data.bad import Bad
from align.data.mixing.overrides import Decoding
from align.data.opening import OpenRow, finish_row, open_sample
from align.evaluation.labels import spell_labels
from align.evaluation.trec.names import NEGATIVE, tell_apart, write_key
from align.model import JointModel
from align.preprocess import Preprocess

MEDIA = {"text": "words", "image": "picture", "audio": "sound"}
"""The medium of a modality's files that mteb has a form for."""


class Row(NamedTuple):
    """One row. sample: the number of its sample, or -1 for a hard negative. data: text, or the bytes of a file."""

    sample: int
    data: str | bytes


@final
@dataclass
class Content:
    """Samples of shards by number, and their rows. group: -1 for none. columns: modality -> its column in a task."""

    keys: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    digest: str = ""
    notes: list[str] = field(default_factory=list)

    def list_names(self, modality: str) -> list[str]:
        """Return a name for each row of a modality: its sample's key, with a number where several have it."""
        keys = [*map(write_key, self.keys)]
        return tell_apart([keys[row.sample] if row.sample >= 0 else NEGATIVE for row in self.rows[modality]])

    def first(self, modality: str) -> dict[int, int]:
        """Return sample -> the place of its first row, of the samples that have one."""
        found: dict[int, int] = {}
        for i, row in enumerate(self.rows[modality]):
            if row.sample >= 0:
                found.setdefault(row.sample, i)
        return found

    def hit_key(self, sample: int) -> tuple[str, int]:
        """Return a key that two samples share where one is a hit for the other: their group, else the sample itself."""
        return ("group", self.group[sample]) if self.group[sample] >= 0 else ("sample", sample)


def read_content(model: JointModel, shards: Shards) -> Content:
    """Return all rows of the model's modalities. Rows that its preprocesses cannot read are counted and left out.

    All rows are held in memory. Modalities whose rows are places in another one's rows are left out, with a note.
    """
    readers = {m: reader for m, reader in model.preprocess.items() if not reader.of and m not in model.follows}
    found = Content(rows={m: [] for m in readers}, columns={m: column_of(m, r) for m, r in readers.items()})
    if parts := [m for m in model.modalities if m not in readers]:
        found.notes.append(f"{', '.join(parts)}: no tasks, as their rows are parts of another modality's")
    decoding = Decoding(shards.members, readers)
    digest = hashlib.sha256()
    for sample in shards.samples(0):
        opening = open_sample(sample, decoding)
        number = len(found.keys)
        kept = False
        for m, reader in readers.items():
            for row in opening.rows[m]:
                fault = row if isinstance(row, Bad) else finish_row(row, reader, None, m, opening)
                if isinstance(fault, Bad):
                    shards.count(fault.reason, where=fault.where)
                if isinstance(fault, Bad) or isinstance(row, Bad):
                    continue
                data = _data(row, found.columns[m])
                digest.update(repr((m, opening.key, row.negative)).encode())
                digest.update(data if isinstance(data, bytes) else data.encode())
                found.rows[m].append(Row(-1 if row.negative else number, data))
                kept = True
        if kept:
            found.keys.append(opening.key)
            found.labels.append(opening.label)
            found.group.append(opening.group)
    layout = shards.benchmark is not None and bool(shards.benchmark.classes)
    found.labels = spell_labels(found.labels, shards.classes, positions=layout)
    found.rows = {m: rows for m, rows in found.rows.items() if rows}
    found.digest = digest.hexdigest()
    return found


def column_of(modality: str, reader: Preprocess) -> str:
    """Return the name of a modality's column: mteb's where it has a form for such files, else one of ours.

    >>> from align.preprocess import Bytes, Points
    >>> column_of("text", Bytes()), column_of("points", Points())
    ('text', 'align:points')
    """
    medium = reader.medium.name if reader.medium is not None else ""
    return modality if modality in KNOWN and MEDIA[modality] == medium else OTHER + modality


def _data(row: OpenRow, column: str) -> str | bytes:
    data = row.data
    if column != "text":
        return data.encode() if isinstance(data, str) else bytes(data)
    return data.decode("utf-8-sig", "replace") if isinstance(data, bytes) else str(data)
