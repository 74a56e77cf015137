"""A change of an index: one transaction of any size."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from align.files import json_text
from align.search.item import Item
from align.search.leaves import plain
from align.search.local.corrections import write_shift
from align.search.local.entries import MANY, Entries
from align.search.local.growing import GrowingSegments
from align.search.local.segments import Mapped, Writer, list_segments, map_segment
from align.search.shift import Shift
from align.values import Rows

MODALITIES = 62


@final
class Change:
    """A change that is being made. ``LocalIndex.change`` begins and ends it.

    Rows go to the disk as they come, so a change of any size needs the memory of one ``add``.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection):
        self.folder = folder
        self.connection = connection
        self.about_now: dict[str, Any] = {
            name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM about")
        }
        self._entries = Entries(connection)
        self._bits = dict(connection.execute("SELECT name, id FROM modalities"))
        self._segments = GrowingSegments(folder, connection)

    def add(self, rows: Mapping[str, Rows], items: Sequence[Item]) -> Tensor:
        """Add items with their rows, and return the items' numbers (len(items),).

        An item that is there stays as it is. It gets rows of a modality of which it has none, and others are left
        out: adding twice adds nothing. So a sample's rows of one modality come in one call.

        Args:
            rows: modality -> values (n, D) of any length, and their places in `items`; -1: the row is left out.

        Raises ValueError for rows of another dim, of a place that `items` lacks, or with a value that is not finite.
        """
        for m, part in rows.items():
            self._check(m, part, items)
        first = [True] * len(items)
        numbers: list[int] = []
        seen: set[int] = set()
        for i, item in enumerate(items):
            number, _ = self._entries.put(item)
            first[i] = number not in seen
            seen.add(number)
            numbers.append(number)
        out = torch.tensor(numbers, dtype=torch.long)
        for m, part in rows.items():
            values, sample = part.values, part.sample.cpu()
            assert isinstance(values, Tensor)
            lacking = self._lack(m, numbers)
            keep = torch.tensor([f and number in lacking for f, number in zip(first, numbers, strict=True)] + [False])
            chosen = keep[sample].nonzero()[:, 0]  # -1 is the last, which is left out
            if len(chosen):
                order = chosen[out[sample[chosen]].argsort(stable=True)]
                self._write(m, values[order.to(values.device)], out[sample[order]])
        return out

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the samples with these keys, from every place, and return their number."""
        numbers: list[int] = []
        for key in dict.fromkeys(keys):
            found = self.connection.execute("SELECT number FROM items WHERE key = ?", (plain(key),))
            numbers += [number for (number,) in found]
        return self.remove(numbers)

    def remove(self, numbers: Iterable[int]) -> int:
        """Delete the samples with these numbers, and return how many were there."""
        self._segments.close()
        wanted, gone = sorted({int(number) for number in numbers}), 0
        for start in range(0, len(wanted), MANY):
            some = wanted[start : start + MANY]
            marks = ", ".join("?" for _ in some)
            there = dict(
                self.connection.execute(f"SELECT number, modalities FROM items WHERE number IN ({marks})", some)
            )
            self._entries.drop(list(there))
            with_rows = [(number,) for number, bits in there.items() if bits]
            self.connection.executemany("INSERT INTO dead VALUES (?)", with_rows)
            gone += len(there)
            if with_rows:
                self._count_dead([number for (number,) in with_rows])
        return gone

    def source(self, place: str, mark: Any) -> None:
        """Note a shard or a file that is in the index with its mark, any JSON. None: the note goes."""
        if mark is None:
            self.connection.execute("DELETE FROM sources WHERE place = ?", (plain(place),))
        else:
            values = (plain(place), json_text(mark))
            self.connection.execute("INSERT OR REPLACE INTO sources VALUES (?, ?)", values)

    def about(self, **values: Any) -> None:
        """Set entries of the index's ``about``. None removes one."""
        for name, value in values.items():
            if value is None:
                self.about_now.pop(name, None)
                self.connection.execute("DELETE FROM about WHERE name = ?", (name,))
            else:
                self.about_now[name] = value
                self.connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, json_text(value)))

    def correct(self, name: str, shift: Shift | None, facts: Mapping[str, Any] | None = None) -> None:
        """Keep a correction for hubs under a name. facts: its entry in ``about``. None for both: it goes."""
        write_shift(self.connection, name, shift)
        kept = {k: v for k, v in (self.about_now.get("correction") or {}).items() if k != name}
        if shift is not None:
            kept[name] = dict(facts or {})
        self.about(correction=kept or None)

    def finish(self) -> None:
        """Complete the segments. The transaction is the caller's to commit."""
        self._segments.finish()

    def discard(self) -> None:
        """Remove the segments that were written."""
        self._segments.discard()

    def append(self, m: str, rows: Mapped) -> None:
        """Append rows of samples that are there, as they are stored: unit vectors in ascending order of samples."""
        self._grow(m, int(rows.sample[0])).append(rows)

    def _count_dead(self, numbers: Sequence[int]) -> None:
        wanted, dim = torch.tensor(sorted(numbers)), self.about_now["dim"]
        for entry in list_segments(self.connection):
            sample = map_segment(self.folder, entry, dim, verify=False).sample
            ends = torch.searchsorted(sample, wanted, right=True) - torch.searchsorted(sample, wanted)
            if dead := int(ends.sum()):
                self.connection.execute("UPDATE segments SET dead = dead + ? WHERE id = ?", (dead, entry.id))

    def _check(self, m: str, part: Rows, items: Sequence[Item]) -> None:
        values, sample = part.values, part.sample
        if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != len(sample):
            raise ValueError(f"rows of {m} are a tensor (n, D) with n samples")
        if not len(values):
            return
        if "dim" not in self.about_now:
            self.about(dim=values.shape[1])
        stated = self.about_now["dim"]
        if values.shape[1] != stated:
            raise ValueError(f"{self.folder} has rows of {stated} numbers; these of {m} have {values.shape[1]}")
        if int(sample.max()) >= len(items) or int(sample.min()) < -1:
            raise ValueError(f"rows of {m} name place {int(sample.max())} of {len(items)} items")
        length = values.detach().float().norm(dim=1)  # infinite too where the squares are more than float32 holds
        bad = ~length.isfinite() & (sample.to(values.device) >= 0)
        if bad.any():
            key = items[int(sample[int(bad.nonzero()[0])])].key
            long = ", or longer than float32 can say," if values.isfinite().all() else ","
            raise ValueError(f"{int(bad.sum())} rows of {m} are not finite{long} the first of {key!r}")

    def _lack(self, m: str, numbers: Sequence[int]) -> set[int]:
        """Return those of the samples that have no row of a modality."""
        bit = self._bit(m)
        lacking: set[int] = set()
        for start in range(0, len(numbers), MANY):
            some = numbers[start : start + MANY]
            sql = f"SELECT number FROM items WHERE modalities & ? = 0 AND number IN ({', '.join('?' for _ in some)})"
            lacking.update(number for (number,) in self.connection.execute(sql, [bit, *some]))
        return lacking

    def _bit(self, m: str) -> int:
        if m not in self._bits:
            if len(self._bits) >= MODALITIES:
                raise ValueError(f"an index has at most {MODALITIES} modalities; it has {', '.join(self._bits)}")
            self._bits[m] = len(self._bits)
            self.connection.execute("INSERT INTO modalities VALUES (?, ?)", (self._bits[m], m))
        return 1 << self._bits[m]

    def _write(self, m: str, values: Tensor, sample: Tensor) -> None:
        self._grow(m, int(sample[0])).write(values, sample)
        numbers = [(self._bit(m), number) for number in sample.unique().tolist()]
        self.connection.executemany("UPDATE items SET modalities = modalities | ? WHERE number = ?", numbers)

    def _grow(self, m: str, first: int) -> Writer:
        """Return the segment of a modality that goes on with sample `first`."""
        self._bit(m)
        half = self.about_now.get("dtype") == "float16"
        return self._segments.grow(self._bits[m], first, self.about_now["dim"], half=half)
