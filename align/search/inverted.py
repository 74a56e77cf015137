"""An inverted index: for each dimension the rows in which it is not zero. It answers as the dense product does."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from align.search.exact import find_best


@final
class Inverted:
    """Sparse rows by dimension. A query reads the postings of its dimensions that are not zero, and no other row.

    A row without any of them has the score 0. The postings give each score up to the rounding of float32. Rows that
    this leaves in question are scored in float64, as ``find_best`` does, so the order and the scores are the dense
    product's to the bit.

    values: (n, D) rows, sample: (n,) their samples, ascending. It costs 8 bytes for an entry that is not zero, twice:
    by dimension, and by row for the last scores.
    """

    def __init__(self, values: Tensor, sample: Tensor):
        rows = values.float().numpy()
        self.dim, self.sample = rows.shape[1], sample
        dimension, row = np.nonzero(rows.T)
        self._weight = rows[row, dimension]
        self._row = row.astype(np.int32)
        self._start = np.searchsorted(dimension, np.arange(self.dim + 1))
        at, column = np.nonzero(rows)
        self._column, self._entry = column.astype(np.int32), rows[at, column]
        self._begin = np.searchsorted(at, np.arange(len(rows) + 1))

    @property
    def entries(self) -> int:
        """Number of entries that are not zero."""
        return len(self._row)

    @property
    def bytes(self) -> int:
        """Memory of the postings and rows."""
        kept = (self._weight, self._row, self._start, self._column, self._entry, self._begin)
        return sum(x.nbytes for x in kept)

    def search(self, query: Tensor, k: int, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores (q, k) and the samples (q, k) of queries (q, D), see ``Index.search``."""
        if query.shape[1] != self.dim:
            raise ValueError(f"a query of this index is (q, {self.dim}); got {tuple(query.shape)}")
        passed = np.arange(len(self.sample)) if keep is None else keep.numpy().nonzero()[0]
        found = [self._search(one, k, passed) for one in query]
        return torch.cat([scores for scores, _ in found]), torch.cat([samples for _, samples in found])

    def _search(self, query: Tensor, k: int, passed: np.ndarray) -> tuple[Tensor, Tensor]:
        asked = query.numpy().astype(np.float32)
        scores, read = np.zeros(len(self.sample), np.float32), np.zeros(len(self.sample), bool)
        for d in asked.nonzero()[0]:
            here = self._row[self._start[d] : self._start[d + 1]]
            scores[here] += asked[d] * self._weight[self._start[d] : self._start[d + 1]]  # no row comes twice
            read[here] = True
        few = self._list_possible(scores, read, passed, k, float(query.double().norm()))
        return find_best(query[None], torch.from_numpy(self._fill(few)), self.sample[few], k)

    def _list_possible(
        self, scores: np.ndarray, read: np.ndarray, passed: np.ndarray, k: int, norm: float
    ) -> np.ndarray:
        """Return the rows, ascending, that rounding leaves among those of the k best samples."""
        scores, read, numbers = scores[passed], read[passed], self.sample.numpy()[passed]
        least, depth = -np.inf, k
        while depth < len(scores):
            least = np.partition(scores, len(scores) - depth)[len(scores) - depth]
            if len(np.unique(numbers[scores >= least])) >= k:
                break
            least, depth = -np.inf, depth * 2  # several rows of one sample
        error = 4 * float(np.finfo(np.float32).eps) * self.dim * norm
        near = (read & (scores >= least - error)).nonzero()[0]
        zeros = (~read).nonzero()[0]  # exactly 0 all of them, so the first samples stand for the rest
        first = zeros[np.unique(numbers[zeros], return_index=True)[1][:k]] if least <= error else zeros[:0]
        return passed[np.sort(np.concatenate([near, first]))]

    def _fill(self, rows: np.ndarray) -> np.ndarray:
        """Return rows (r,) as a dense matrix (r, D)."""
        dense = np.zeros((len(rows), self.dim), np.float32)
        for i, row in enumerate(rows):
            here = slice(self._begin[row], self._begin[row + 1])
            dense[i, self._column[here]] = self._entry[here]
        return dense
