"""Clusters of nearly equal size: rows that are near each other, for batches of hard negatives."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 8
"""Moves of the two centres of a set, at most."""


def find_clusters(rows: Tensor, size: int) -> np.ndarray:
    """Return (n,) int64, the cluster of each row (n, W), by cosine. Clusters have ``size`` rows, or one more or fewer.

    A set is divided by balanced 2-means, and each part again: rows are sorted by x·(a - b), with a and b the parts'
    means, until no row moves. It costs n·W·log(n / size), no matrix of n x n, and draws nothing. Equal sizes let
    a batch hold whole clusters. The clusters' numbers follow the tree of divisions, so near clusters have near numbers.

    Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"a cluster has at least 1 sample; got size={size}")
    x = F.normalize(rows.float(), dim=1, eps=1e-6)
    out, done = np.zeros(len(x), dtype=np.int64), 0
    stack = [(torch.arange(len(x)), max(1, round(len(x) / size)))]
    while stack:
        members, parts = stack.pop()
        if parts == 1:
            out[members.numpy()] = done
            done += 1
            continue
        left = parts // 2
        count = round(len(members) * left / parts)
        order = _divide(x[members], count)
        stack += [(members[order[count:]], parts - left), (members[order[:count]], left)]
    return out


def _divide(x: Tensor, count: int) -> Tensor:
    """Return an order (n,) of rows: those of one part first, ``count`` of them."""
    a = x[(x - x.mean(0)).square().sum(1).argmax()]
    b = x[(x - a).square().sum(1).argmax()]
    order = torch.arange(len(x))
    for _ in range(STEPS):
        found = (x @ (b - a)).argsort(stable=True)
        if torch.equal(found[:count].msort(), order[:count].msort()):
            break
        order = found
        a, b = x[order[:count]].mean(0), x[order[count:]].mean(0)
    return order
