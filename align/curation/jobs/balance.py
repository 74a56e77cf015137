"""Number of samples in each shard, chosen so that shards are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def balance(sizes: Sequence[int], per_shard: int, shard_bytes: int | None = None) -> list[int]:
    """Return the number of samples in each shard: as few shards as the limits allow, as equal as possible.

    sizes: bytes of each sample, in the order of writing. Without ``shard_bytes`` the shards' numbers of samples differ
    by one at most. With it the shards have equal bytes to within one sample. A sample larger than ``shard_bytes`` gets
    a shard of its own.

    >>> balance([1] * 7, 3), balance([5, 5, 5, 1, 1, 1], 100, 10)
    ([3, 2, 2], [2, 4])
    """
    n = len(sizes)
    if n == 0:
        return []
    if shard_bytes is None:
        shards = -(-n // per_shard)
        return [n // shards + (k < n % shards) for k in range(shards)]
    ends = np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))])  # (n + 1,) bytes before each, then of all
    total = int(ends[-1])
    shards = max(-(-n // per_shard), -(-total // shard_bytes), 1)
    while True:
        wanted = np.array([total * k // shards for k in range(1, shards)], np.int64)
        after = np.searchsorted(ends, wanted)  # the next border between samples
        before = np.maximum(after - 1, 0)
        cuts = np.unique([0, *np.where(wanted - ends[before] <= ends[after] - wanted, before, after), n])
        counts, held = np.diff(cuts), np.diff(ends[cuts])
        if ((counts == 1) | ((counts <= per_shard) & (held <= shard_bytes))).all():
            return counts.tolist()
        if shards > 2 * n + total // max(1, shard_bytes):  # no finer division is left
            return [1] * n
        shards += max(1, shards // 50)
