"""One column: rows of a modality by the numbers of samples, gathered from mapped blocks without a loop over rows."""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from align.data.columns.format import ColumnInfo, ColumnName
from align.data.columns.part_file import TensorPlace
from align.data.columns.set_reader import SetReader
from align.values import FeatureOrigin, Values

DTYPES = {"float16": np.dtype("float16"), "float32": np.dtype("float32")}


class Found(NamedTuple):
    """Rows of some samples, in their order.

    values: (n, W), or with tokens {"pooled": (n, W), "tokens": (n, L, W), "mask": (n, L)}, where L is the column's
    longest. owner: (n,) the place of each row's sample among those that were asked for. negative: (n,) bool, True for
    a hard negative. damaged: (B,) bool, True for a sample whose block is damaged. It has no row here.
    """

    values: Values
    owner: np.ndarray
    negative: np.ndarray
    damaged: np.ndarray

    @property
    def pooled(self) -> Tensor:
        """The rows (n, W), without tokens."""
        return self.values["pooled"] if isinstance(self.values, dict) else self.values

    def drop_negatives(self) -> Found:
        """Return the rows that are no hard negatives."""
        kept = torch.from_numpy(~self.negative)
        values = self.values
        left = {name: x[kept] for name, x in values.items()} if isinstance(values, dict) else values[kept]
        return Found(left, self.owner[~self.negative], self.negative[~self.negative], self.damaged)


@final
class Column:
    """Rows of a modality in a set. It keeps 8 bytes a sample, and no row.

    A block is damaged where its tensors do not fit the column, or its checksum is not the record's. Its samples have no
    rows.
    """

    def __init__(self, name: ColumnName, info: ColumnInfo, reader: SetReader):
        self.name, self.info, self.reader = name, info, reader
        if info.dtype not in DTYPES:
            raise ValueError(f"{name} has values of {info.dtype!r}; a column has float16 or float32")
        self.dtype = DTYPES[info.dtype]
        blocks = len(reader.blocks)
        self._counts = np.zeros(int(reader.first[-1]), dtype=np.int64)  # rows of each sample
        self._values = np.zeros(blocks, dtype=np.int64)  # first byte of each block's values
        self._tokens = np.zeros(blocks, dtype=np.int64)
        self._rows = np.zeros(blocks + 1, dtype=np.int64)  # rows before each block
        self.present = 0  # samples with a row that is no hard negative
        self._negative: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []  # tokens of each row
        self._offsets: list[np.ndarray] = []  # the row's first token in its block
        for b in range(blocks):
            n = self._open(b)
            self._rows[b + 1] = self._rows[b] + n
        self._first = np.concatenate([[0], np.cumsum(self._counts)])  # (samples + 1,) rows before each sample
        negative = np.concatenate([np.zeros(0, dtype=bool), *self._negative])
        self._marks = negative if negative.any() else None
        if info.tokens:
            self._length = np.concatenate([np.zeros(0, dtype=np.int64), *self._lengths])
            self._offset = np.concatenate([np.zeros(0, dtype=np.int64), *self._offsets])
        self.longest = int(self._length.max(initial=1)) if info.tokens else 0
        del self._counts, self._negative, self._lengths, self._offsets

    def _open(self, b: int) -> int:
        """Note the places of a block's rows, and return their number. A block that does not fit is damaged."""
        reader, m = self.reader, self.name.modality
        places = reader.find_tensors(b)
        values, sample = places.get(f"{m}.values"), places.get(f"{m}.sample")
        start, count = reader.blocks[b].block[:2]
        wanted = [("tokens", self.dtype), ("offset", np.dtype("int64"))] if self.info.tokens else []
        others = [places.get(f"{m}.{name}") for name, _ in wanted]
        if values is None or sample is None or None in others:
            reader.condemn(b)
            return 0
        owner = reader.read(b, sample)
        negative = owner < -1
        owner = np.where(negative, -2 - owner, owner) - start
        fits = owner.ndim == 1 and values.dtype == self.dtype and values.shape == (len(owner), self.info.width)
        if fits and len(owner):
            fits = owner[0] >= 0 and owner[-1] < count and bool((np.diff(owner) >= 0).all())
        if not fits or not self._open_tokens(b, others, len(owner)):
            reader.condemn(b)
            return 0
        self._values[b] = values.offset
        self.present += len(np.unique(owner[~negative]))
        self._counts[reader.first[b] : reader.first[b + 1]] = np.bincount(owner, minlength=count)
        self._negative.append(negative)
        return len(owner)

    def _open_tokens(self, b: int, places: list[TensorPlace | None], rows: int) -> bool:
        if not places:
            return True
        tokens, offset = places
        if tokens is None or offset is None or offset.shape != (rows + 1,) or tokens.dtype != self.dtype:
            return False
        ends = self.reader.read(b, offset)
        lengths = np.diff(ends)
        if ends[0] != 0 or (lengths < 0).any() or tokens.shape != (int(ends[-1]), self.info.width):
            return False
        self._tokens[b] = tokens.offset
        self._lengths.append(lengths)
        self._offsets.append(ends[:-1])
        return True

    def rows(self, numbers: np.ndarray) -> Found:
        """Return the rows of samples by their numbers (B,)."""
        sound = self.reader.are_sound(self.reader.locate(numbers))
        low = self._first[numbers]
        counts = np.where(sound, self._first[numbers + 1] - low, 0)
        before = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(numbers)), counts)
        row = np.repeat(low - before, counts) + np.arange(len(owner))  # through all blocks
        block = np.searchsorted(self._rows, row, side="right") - 1
        at = self._values[block] + (row - self._rows[block]) * self._row_bytes
        values: Values = torch.from_numpy(self._gather(block, at))
        if self.info.tokens:
            values = {"pooled": values, **self._find_tokens(block, row)}
        negative = np.zeros(len(row), dtype=bool) if self._marks is None else self._marks[row]
        return Found(values, owner, negative, ~sound)

    def _find_tokens(self, block: np.ndarray, row: np.ndarray) -> dict[str, Tensor]:
        length = self._length[row]
        mask = np.arange(self.longest) < length[:, None]  # (n, L)
        within = np.broadcast_to(np.arange(self.longest), mask.shape)[mask]  # (ΣL,)
        of_token = np.repeat(block, length)
        at = self._tokens[of_token] + (np.repeat(self._offset[row], length) + within) * self._row_bytes
        tokens = np.zeros((*mask.shape, self.info.width), dtype=self.dtype)
        tokens[mask] = self._gather(of_token, at)
        return {"tokens": torch.from_numpy(tokens), "mask": torch.from_numpy(mask)}

    def empty(self) -> Values:
        """Return n = 0 rows."""
        none = torch.from_numpy(np.zeros((0, self.info.width), dtype=self.dtype))
        if not self.info.tokens:
            return none
        mask = torch.zeros(0, self.longest, dtype=torch.bool)
        return {"pooled": none, "tokens": none.new_zeros(0, self.longest, self.info.width), "mask": mask}

    def read_origin(self) -> FeatureOrigin:
        """Return the tower that made the rows, as a head that is fitted on them keeps it."""
        info, reader = self.info, self.reader
        facts = {**info._asdict(), "name": str(self.name)}
        if (published := reader.published.get(f"{self.name.modality}.encoder")) is not None:
            facts["origin"] = published
        return FeatureOrigin(reader.model, reader.sha256, self.name.modality, info.weights, info.preprocess, facts)

    @property
    def _row_bytes(self) -> int:
        return self.info.width * self.dtype.itemsize

    def _gather(self, block: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Return (n, W) of rows that begin at the bytes ``at`` of their blocks' parts."""
        out = np.empty((len(at), self._row_bytes), dtype=np.uint8)
        part = self.reader.of_part[block]
        for p in np.unique(part).tolist():
            windows = np.lib.stride_tricks.sliding_window_view(self.reader.parts[p].bytes, self._row_bytes)
            here = part == p
            if here.all():
                out = windows[at]
            else:
                out[here] = windows[at[here]]
        return out.view(self.dtype)
