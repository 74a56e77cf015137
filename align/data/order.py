"""The shuffle: the order of an epoch, a function of (seed, epoch, streams, block) for any ranks and workers.

The blocks of all shards (runs of neighbouring samples) are permuted, laid end to end and cut into ``streams`` pieces;
with blocks of more than one sample, each piece is shuffled in windows of WINDOW blocks (the shuffle buffer). Position p
belongs to stream p mod ``streams``: the order is a round robin over the pieces. With block = 1 every permutation is as
likely as any other. Otherwise a block goes anywhere in the epoch, but a sample stays in one window with its neighbours
(unless an edge of a piece or a window parts them): within WINDOW · block · streams positions, 98,304 for 256 and 48. In
smaller sets that is anywhere. Of 1,000,000 samples, neighbours are 9 times as likely to share a batch as any two.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import final

import numpy as np

from align.seeds import derive

WINDOW = 8  # blocks that a reader of one stream holds, and the distance of a sample from its neighbours


def order(lengths: Sequence[int], *, seed: int, epoch: int, streams: int = 48, block: int = 1) -> np.ndarray:
    """Return (N,) int64: the sample at each position, numbered through shards of these ``lengths``, N in all."""
    if streams < 1 or block < 1:
        raise ValueError(f"streams and block are at least 1; got streams={streams}, block={block}")
    total = int(sum(lengths))
    sequence = permutation(total, seed, epoch, "blocks") if block == 1 else _blocks(lengths, block, seed, epoch)
    out = np.empty(total, dtype=np.int64)
    end = 0
    for s in range(min(streams, total)):
        begin, end = end, end + len(range(s, total, streams))  # equal pieces: they differ by one sample at most
        piece = sequence[begin:end]
        if block > 1:
            piece = _windows(piece, WINDOW * block, seed, epoch, s)
        out[s::streams] = piece
    return out


def order_clusters(clusters: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Return (N,) int64: the sample at each position, with the samples of a cluster side by side.

    clusters: (N,) int64, the cluster of each sample, numbers from 0. The clusters are permuted, and the samples inside
    each: a function of (clusters, seed, epoch).
    """
    place = permutation(int(clusters.max(initial=-1)) + 1, seed, epoch, "clusters")
    inside = permutation(len(clusters), seed, epoch, "members")
    return np.lexsort((inside, place[clusters])).astype(np.int64, copy=False)


@final
class Orders:
    """Orders of the epochs of one set. The last two are kept, for the border of epochs.

    streams=None: the samples are not shuffled, and every epoch has their own order. clusters: (N,) of an order file, by
    which the set is shuffled instead of by streams and blocks.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        seed: int,
        streams: int | None,
        block: int,
        clusters: np.ndarray | None = None,
    ):
        self.lengths, self.seed, self.streams, self.block = list(lengths), seed, streams, block
        self.clusters = clusters
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def __getitem__(self, epoch: int) -> np.ndarray:
        """Return (N,) int64: the sample at each position of an epoch."""
        key = 0 if self.streams is None else epoch
        if key not in self._kept:
            self._kept[key] = self._make(epoch)
            while len(self._kept) > 2:
                self._kept.popitem(last=False)
        return self._kept[key]

    def _make(self, epoch: int) -> np.ndarray:
        if self.streams is None:
            return np.arange(sum(self.lengths))
        if self.clusters is not None:
            return order_clusters(self.clusters, seed=self.seed, epoch=epoch)
        return order(self.lengths, seed=self.seed, epoch=epoch, streams=self.streams, block=self.block)


def permutation(n: int, *key: int | str) -> np.ndarray:
    """Return (n,) int64: a permutation of 0..n-1 that follows from ``key`` alone.

    Sorted raw draws of PCG64: numpy promises that these never change, which it does not for its ``permutation``.
    """
    draws = np.random.PCG64(derive("order", *key)).random_raw(n)
    return np.argsort(draws, kind="stable").astype(np.int64, copy=False)


def _blocks(lengths: Sequence[int], block: int, seed: int, epoch: int) -> np.ndarray:
    starts, sizes, first = [], [], 0
    for length in lengths:
        for start in range(0, length, block):
            starts.append(first + start)
            sizes.append(min(block, length - start))
        first += length
    shuffled = permutation(len(starts), seed, epoch, "blocks").tolist()
    runs = [np.arange(starts[b], starts[b] + sizes[b], dtype=np.int64) for b in shuffled]
    return np.concatenate(runs) if runs else np.empty(0, dtype=np.int64)


def _windows(piece: np.ndarray, window: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    parts = [piece[i : i + window] for i in range(0, len(piece), window)]
    return np.concatenate([p[permutation(len(p), seed, epoch, stream, w)] for w, p in enumerate(parts)])
