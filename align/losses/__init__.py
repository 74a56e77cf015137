"""One loss a file: arithmetic over dense tensors and sample ids, usable in anyone's training loop.

Functions take the multiplier ``scale``; the modules of the same names hold a learned one.
"""

from align.losses.infonce import InfoNCE, infonce
from align.losses.late_interaction import LateInteraction, late_interaction
from align.losses.mip import mip
from align.losses.siglip import SigLIP, siglip
from align.losses.sinkhorn import sinkhorn
from align.losses.symile import Symile, symile
from align.losses.transport import Transport, transport

__all__ = [
    "InfoNCE",
    "LateInteraction",
    "SigLIP",
    "Symile",
    "Transport",
    "infonce",
    "late_interaction",
    "mip",
    "siglip",
    "sinkhorn",
    "symile",
    "transport",
]
