"""Places of each source's samples in a batch, chosen so that a reader keeps to whole streams of every source."""

from __future__ import annotations

import numpy as np


def layout(before: np.ndarray, after: np.ndarray, streams: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each source, the places in a batch of its draws before[s] .. after[s] - 1, and their offsets.

    Draw q belongs to the class of places q mod ``streams``, which divides the batch. For every second source it is
    (-1 - q), so that the draws of two sources fill the classes evenly together. A draw that finds its class full goes
    to a place that is left. Its offset is its class less that place, modulo ``streams``, and 0 for all others.
    """
    counts = after - before
    rows = int(counts.sum()) // streams
    used = np.zeros(streams, np.int64)  # places taken in each class
    free = np.ones(rows * streams, bool)
    out: list[tuple[np.ndarray, np.ndarray]] = []
    for s, k in enumerate(counts.tolist()):
        draws = before[s] + np.arange(k)
        of = draws % streams if s % 2 == 0 else (-1 - draws) % streams  # (k,) class
        row = used[of] + np.arange(k) // streams
        places, strange = row * streams + of, row >= rows
        used += np.bincount(of[~strange], minlength=streams)
        free[places[~strange]] = False
        places[strange] = -1
        out.append((places, of))
    left = np.flatnonzero(free)
    for places, _ in out:
        n = int((places < 0).sum())
        places[places < 0], left = left[:n], left[n:]
    return [(places, (of - places) % streams) for places, of in out]
