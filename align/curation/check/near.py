"""Search for pairs of close fingerprints, without comparing all with all."""

from __future__ import annotations

import numpy as np

BITS = 10  # of 128 that may differ
COLOUR = 24  # of 255: how far the mean colour of any part may be off
WINDOW = 24  # prints after a print, in the order of a band, that it is compared with

_ones = np.array([bin(i).count("1") for i in range(1 << 16)], dtype=np.uint8)  # bits that are set


def near(bits: np.ndarray, colours: np.ndarray, *, split: int | None = None) -> np.ndarray:
    """Return (pairs, 3) int64: i < j, and the number of bits in which the prints differ, at most BITS.

    Prints are sorted by each of their eight 16-bit bands in turn, and each is compared with the next WINDOW prints that
    share the band (Manku et al. 2007, "Detecting near-duplicates for web crawling", section 3). Two prints that differ
    in up to 7 bits share a band. They are compared unless more than WINDOW others lie between them. Most pairs that
    differ in 8 to 10 bits are compared too. The cost is n log n + 8 · WINDOW · n.

    bits: (n, 8) uint16. colours: (n, 48) uint8. A pair is near only where no colour differs by more than COLOUR.
    split: keep only pairs with i < split <= j.
    """
    n, words = bits.shape
    pairs = [np.zeros((0, 3), dtype=np.int64)]
    for band in range(words):
        turned = [bits[:, (band + w) % words] for w in reversed(range(words))]
        order = np.lexsort(turned)
        value = bits[order, band]
        for step in range(1, min(WINDOW, n - 1) + 1):
            at = np.flatnonzero(value[:-step] == value[step:])
            if not len(at):
                break
            a, b = order[at], order[at + step]
            differ = _ones[bits[a] ^ bits[b]].sum(axis=1, dtype=np.int64)
            kept = differ <= BITS
            a, b, differ = a[kept], b[kept], differ[kept]
            kept = np.abs(colours[a].astype(np.int16) - colours[b]).max(axis=1, initial=0) <= COLOUR
            if split is not None:
                kept &= (a < split) != (b < split)
            a, b = a[kept], b[kept]
            pairs.append(np.stack([np.minimum(a, b), np.maximum(a, b), differ[kept]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)
