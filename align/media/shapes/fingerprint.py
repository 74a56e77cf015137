"""A fingerprint of a cloud: equal for the same places in another order, in another precision, or with other colours."""

from __future__ import annotations

import hashlib

import numpy as np


def cloud_print(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(P, 3) -> (8,) uint16, a hash of the places in half precision; (48,) uint8 zeros. None: beyond it."""
    with np.errstate(over="ignore"):
        half = xyz.astype(np.float16) + np.float16(0)  # -0 is 0
    if not np.isfinite(half).all():
        return None
    half = half[np.lexsort(half.T)]
    found = hashlib.blake2b(np.ascontiguousarray(half).tobytes(), digest_size=16).digest()
    return np.frombuffer(found, dtype=np.uint16), np.zeros(48, dtype=np.uint8)
