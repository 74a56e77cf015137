"""Hamming search: rows of signs as packed bits, compared by counting the bits that differ."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

_ONES = np.array([bin(i).count("1") for i in range(256)], np.uint8)
"""Number of ones in each byte, for a NumPy before 2.0, which has no ``bitwise_count``."""


@final
class Hamming:
    """The signs of rows, one bit a dimension. A search counts the bits in which the query's signs differ.

    With h of D bits different, the score is |q| · (D - 2 h) / D. For a query and rows of ``heads.Binary`` that is the
    product of the two, so the order is the dense product's, ties included. A query that is no row of signs, such as a
    sum of two, is read by its signs alone.

    values: (n, D) rows, sample: (n,) their samples, ascending. A row costs D / 8 bytes, up to the next 8.
    """

    def __init__(self, values: Tensor, sample: Tensor):
        self.dim, self.sample = values.shape[1], sample
        self._bits = _pack(values)  # (n, ceil(D / 64)) of 64 bits

    @property
    def bytes(self) -> int:
        """Memory of the bits."""
        return self._bits.nbytes

    def search(self, query: Tensor, k: int, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the scores (q, k) and the samples (q, k) of queries (q, D), see ``Index.search``."""
        if query.shape[1] != self.dim:
            raise ValueError(f"a query of this index is (q, {self.dim}); got {tuple(query.shape)}")
        bits, numbers = self._bits, self.sample.numpy()
        if keep is not None:
            bits, numbers = bits[keep.numpy()], numbers[keep.numpy()]
        distances, samples = [], []
        for one in _pack(query):
            apart = count_ones(bits ^ one)  # (n,)
            few = _list_near(apart, numbers, k)
            order = few[apart[few].argsort(kind="stable")]  # among equal distances the lower number comes first
            order = order[np.sort(np.unique(numbers[order], return_index=True)[1])[:k]]
            distances.append(apart[order])
            samples.append(numbers[order])
        apart = torch.from_numpy(np.stack(distances).astype(np.float64))
        scores = query.double().norm(dim=1, keepdim=True) * (self.dim - 2 * apart) / self.dim
        return scores.float(), torch.from_numpy(np.stack(samples))


def _list_near(apart: np.ndarray, numbers: np.ndarray, k: int) -> np.ndarray:
    """Return the rows, ascending, up to a distance at which there are k samples, or all rows where there are fewer."""
    within, depth = np.bincount(apart).cumsum(), k  # (distances,) rows up to each
    while depth < len(apart):
        few = (apart <= within.searchsorted(depth)).nonzero()[0]
        if len(np.unique(numbers[few])) >= k:
            return few
        depth *= 2  # several rows of one sample
    return np.arange(len(apart))


def count_ones(words: np.ndarray) -> np.ndarray:
    """Return the number of ones in each row (n,) of 64-bit words (n, w)."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).sum(1, dtype=np.int32)
    return _ONES[words.view(np.uint8)].sum(1, dtype=np.int32)


def _pack(rows: Tensor) -> np.ndarray:
    bits = np.packbits(rows.numpy() >= 0, axis=1)
    spare = -bits.shape[1] % 8
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, spare)))).view(np.uint64)
