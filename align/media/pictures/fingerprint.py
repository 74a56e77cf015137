"""A fingerprint of a picture: 128 bits that survive another size, format and quality, and its colours.

64 bits say which of the lowest frequencies are above their median (Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions", section 3.2.1), 64 say where brightness rises from left to right (dHash).
"""

from __future__ import annotations

import numpy as np

SIDE = 32
_k, _n = np.arange(8)[:, None], np.arange(SIDE)[None]
COSINES = np.cos(np.pi * _k * (2 * _n + 1) / (2 * SIDE))  # (8, SIDE): the first rows of a DCT-II


def picture_print(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 -> (8,) uint16, the bits; (48,) uint8, the mean colours of 4 x 4 parts."""
    from PIL import Image
    from PIL.Image import Resampling

    image = Image.fromarray(pixels)
    grey = image.convert("L")
    small = np.asarray(grey.resize((SIDE, SIDE), Resampling.BOX), dtype=np.float64)
    low = (COSINES @ small @ COSINES.T).ravel()  # (64,) the lowest frequencies
    rows = np.asarray(grey.resize((9, 8), Resampling.BOX), dtype=np.int16)
    bits = np.concatenate([low > np.median(low[1:]), (np.diff(rows, axis=1) > 1).ravel()])  # (128,)
    colours = np.asarray(image.resize((4, 4), Resampling.BOX), dtype=np.uint8).ravel()
    return np.packbits(bits).view(np.uint16), colours
