"""A fingerprint of a sound: 128 bits that survive another format, sample rate, loudness and number of channels.

Energy in 17 bands of frequency and 9 parts of time; a bit says whether the step from one band to the next grew or fell
from one part to the next (Haitsma and Kalker 2002, "A highly robust audio fingerprinting system", section 4.2).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

TIMES, BANDS = 9, 17
EDGES = np.geomspace(100, 3400, BANDS + 1)  # Hz: what 8 kHz holds
WINDOW = 0.032  # seconds
FLOOR = -50.0  # dB below the loudest: what is quieter is equally quiet
SCALE = 255 / 80  # a level's byte per dB
STEP = 0.5  # dB: less is no step
FEW = 16  # bits that are set: a single click, or a tone, says too little
BLOCK = 2048  # windows that are transformed at once


def sound_print(wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(T,) float32 -> (8,) uint16, the bits; (48,) uint8, the bands' levels in thirds; None: it says too little."""
    level = 10 * np.log10(_energy(wave, rate) + 1e-12)  # (TIMES, BANDS) dB
    level = np.maximum(level - level.max(), FLOOR)
    rises = np.diff(np.diff(level, axis=1), axis=0) > STEP  # (8, 16)
    if rises.sum() < FEW:
        return None
    thirds = np.stack([third.mean(axis=0) for third in np.array_split(level[:, :-1], 3)])  # (3, 16)
    return np.packbits(rises.ravel()).view(np.uint16), np.round((thirds - FLOOR) * SCALE).astype(np.uint8).ravel()


def _energy(wave: np.ndarray, rate: int) -> np.ndarray:
    """(TIMES, BANDS) mean power of a wave (T,)."""
    size = max(16, round(WINDOW * rate))
    hop = max(1, min(size // 2, (len(wave) - size) // (4 * TIMES)))
    wave = np.pad(wave, (0, max(0, size + TIMES * hop - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop]  # (n, size)
    shape, cuts = np.hanning(size).astype(np.float32), np.linspace(0, len(windows), TIMES + 1).astype(int)
    band = np.searchsorted(EDGES, np.fft.rfftfreq(size, 1 / rate)) - 1
    power = np.zeros((TIMES, size // 2 + 1))
    for t, (begin, end) in enumerate(pairwise(cuts)):
        for start in range(begin, end, BLOCK):
            found = np.fft.rfft(windows[start : min(start + BLOCK, end)] * shape, axis=1)
            power[t] += (np.abs(found) ** 2).sum(axis=0) / (end - begin)
    return np.stack([power[:, band == b].sum(axis=1) for b in range(BANDS)], axis=1)
