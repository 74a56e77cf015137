"""One loss a file: arithmetic over dense tensors and sample ids, usable in anyone's training loop.

Functions take the multiplier ``scale``; the modules of the same names hold a learned one.
"""

from align.losses.infonce import InfoNCE, infonce
from align.losses.mip import mip
from align.losses.siglip import SigLIP, siglip
from align.losses.symile import Symile, symile
from align.losses.wrappers import HardNegatives, Matryoshka, MemoryQueue, MixGeodesic

__all__ = [
    "HardNegatives",
    "InfoNCE",
    "Matryoshka",
    "MemoryQueue",
    "MixGeodesic",
    "SigLIP",
    "Symile",
    "infonce",
    "mip",
    "siglip",
    "symile",
]
