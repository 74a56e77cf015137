"""Rows that may be negatives: their cached vectors, and their content in the raw shards."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from align.curation.jobs.job import Progress
from align.curation.mine.near import Pool
from align.data.columns.columns import Columns
from align.data.meta import read_meta
from align.data.names import TEXT, row_name
from align.data.rows import RowSource, find_rows
from align.data.shards import Shards
from align.media import MEDIA
from align.media.choice import of_modality


class Row(NamedTuple):
    """Content of one row, and the suffix of its format."""

    data: bytes
    suffix: str


@final
class Material:
    """Rows of a modality, in the shards and in a cache's column, by sample.

    A sample with another number of rows in the shards than in the cache is left out, because its vectors cannot be
    matched with its rows.

    shards: the raw shards, unshuffled. columns: the same samples' cached rows.
    """

    def __init__(self, shards: Shards, columns: Columns, modality: str, progress: Progress | None = None):
        self.shards, self.modality = shards, modality
        self.left_out: Counter[str] = Counter()
        # position -> the number that a new member of negatives gets, for samples that have negatives already
        self.taken: dict[int, int] = {}
        self._texts: dict[int, list[Row]] = {}  # lines of text are kept, other content is read again
        medium = of_modality(MEDIA, modality)
        self._suffixes = () if medium is None else medium.suffixes
        values, number, group, content = [], [], [], []
        for position in range(len(shards)):
            rows, its_group = self._read(position)
            found = columns.find_rows(modality, [position])
            cached = found.drop_negatives().pooled
            if len(cached) != len(rows):
                self.left_out["other rows in the cache"] += 1
            else:
                values.append(cached)
                number += [position] * len(rows)
                group += [its_group] * len(rows)
                content += [_hash(row.data) for row in rows]
                if rows and all(row.suffix == TEXT for row in rows):
                    self._texts[position] = rows
            if progress is not None:
                progress(position + 1, len(shards))
        if not number:
            raise ValueError(f"no sample of {shards.name} … has a row of {modality} that the cache has too")
        integers = (torch.tensor(x, dtype=torch.int64) for x in (number, group, content))
        self.pool = Pool(torch.cat(values), *integers)
        self._first = np.searchsorted(self.pool.number.numpy(), np.arange(len(shards)))

    def row(self, place: int) -> Row:
        """Return the content of a row of the pool."""
        position = int(self.pool.number[place])
        rows = self._texts.get(position) or self._read(position)[0]
        return rows[place - int(self._first[position])]

    def members(self, position: int, places: list[int]) -> list[tuple[str, bytes]]:
        """Return the members of a sample's new negatives. Lines of text are one member, other rows one each."""
        rows = [self.row(place) for place in places]
        number = self.taken.get(position, -1)
        if all(row.suffix == TEXT for row in rows):
            name = f"{self.modality}.neg.{TEXT}" if number < 0 else f"{self.modality}.neg.{number}.{TEXT}"
            return [(name, b"\n".join(row.data for row in rows) + b"\n")]
        start = max(number, 0)
        return [(f"{self.modality}.neg.{start + i}.{row.suffix}", row.data) for i, row in enumerate(rows)]

    def _read(self, position: int) -> tuple[list[Row], int]:
        """Return a sample's rows and its group."""
        sample, _ = self.shards.read(position, 0, frozenset({self.modality}), stride=1)
        meta, _ = read_meta(sample, self.shards.members)
        names = [row_name(member) for member in sample if not member.startswith("__")]
        negative = [name.number for name in names if name and name.modality == self.modality and name.negative]
        if negative:
            self.taken[position] = max(negative) + 1
        found = find_rows(sample, self.modality, self._suffixes, self.shards.members, meta.json)
        rows = [Row(row.data, row.suffix) for row in found if isinstance(row, RowSource) and not row.negative]
        return [row for row in rows if isinstance(row.data, bytes)], meta.group


def read_queries(columns: Columns, modality: str, samples: int) -> tuple[Tensor, Tensor]:
    """Return the rows (Q, W) of a column, hard negatives left out, and the sample (Q,) of each."""
    found = columns.find_rows(modality, np.arange(samples)).drop_negatives()
    return found.pooled, torch.from_numpy(found.owner)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1
