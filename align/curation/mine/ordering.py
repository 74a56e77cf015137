"""Order files from a cache: samples whose rows are near each other share a batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from align.curation.mine.clusters import find_clusters
from align.curation.mine.pool import read_queries
from align.data.columns.columns import Columns
from align.data.columns.format import parse_column
from align.data.order import permutation
from align.data.order_file import Held, write_order


class Ordered(NamedTuple):
    """Outcome: samples of the file, its clusters, samples without a row, and the mean cosine inside a cluster."""

    samples: int
    clusters: int
    without: int
    near: float


def order_shards(
    of: str, out: str | Path, *, shards: str | Sequence[str] | None = None, size: int = 16, force: bool = False
) -> Ordered:
    """Write an order file for ``Shards(order=...)``: clusters of near samples, from one column of a cache.

    A batch of such an order holds negatives that are near each other: RTD's refined batches (Byun et al. 2024,
    arXiv:2406.09188) and batches of k-means clusters (Merrick 2024, arXiv:2407.18887), here of equal size. The mean of
    a sample's rows stands for it. Samples without a row are spread over clusters of their own, by a fixed draw.

    of: ``CACHE/SET:MODALITY``. out: the file. shards: names of the cache's shards, globs such as ``train-*.tar``: those
    that will be trained on, in the cache's order. None: all. size: samples of a cluster.
    force: replace a file that stands there.

    Raises FileExistsError for a file that stands there, and FileNotFoundError and ValueError as ``Columns`` does.
    """
    if Path(out).exists() and not force:
        raise FileExistsError(f"{out} stands there; --force replaces it")
    if size < 1:
        raise ValueError(f"a cluster has at least 1 sample; got size={size}")
    modality = parse_column(of).modality
    columns = Columns({modality: of}, shards=shards, shuffle=False)
    rows, owner = read_queries(columns, modality, len(columns))
    there, place = owner.unique(return_inverse=True)
    if not len(there):
        raise ValueError(f"{of} has no row of these shards")
    x = torch.zeros(len(there), rows.shape[1]).index_add(0, place, torch.nn.functional.normalize(rows.float(), dim=1))
    found, clusters = find_clusters(x, size), np.empty(len(columns), dtype=np.int64)
    absent = np.setdiff1d(np.arange(len(columns)), there.numpy())
    clusters[there.numpy()] = found
    clusters[absent[permutation(len(absent), 0, "absent")]] = found.max() + 1 + np.arange(len(absent)) // size
    write_order(out, clusters, [Held(shard.samples, shard.keys) for shard in columns.shards])
    means = torch.zeros(int(found.max()) + 1, x.shape[1], dtype=torch.float64)
    unit, cluster = torch.nn.functional.normalize(x, dim=1).double(), torch.from_numpy(found)
    means.index_add_(0, cluster, unit)
    counts = cluster.bincount().double()
    pairs = (counts * (counts - 1)).sum()
    near = float((means.square().sum() - len(x)) / pairs) if pairs else float("nan")
    return Ordered(len(columns), int(clusters.max()) + 1, len(absent), near)
