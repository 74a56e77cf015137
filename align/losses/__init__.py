"""Losses, one a file: arithmetic over dense tensors and sample ids, for any training loop.

Functions take the multiplier ``scale``. The modules of the same names hold a learned one.
"""

from align.losses.confu import ConFu, confu
from align.losses.distillation import Distill, distill
from align.losses.gated_symile import GatedSymile, gated_symile
from align.losses.gram import Gram, gram, gram_volume
from align.losses.infonce import InfoNCE, infonce
from align.losses.late_interaction import LateInteraction, late_interaction
from align.losses.loss import Loss
from align.losses.mip import mip
from align.losses.one_vs_all import OneVsAll, one_vs_all, span_lengths
from align.losses.pull_to_mean import PullToMean, pull_to_mean
from align.losses.ranking import Hinge, hinge
from align.losses.regression import Regress, regress
from align.losses.siglip import SigLIP, siglip
from align.losses.sinkhorn import sinkhorn
from align.losses.symile import Symile, symile
from align.losses.transport import Transport, transport
from align.losses.triangle import Triangle, triangle, triangle_area
from align.losses.uniformity import AlignUniform, alignment, uniformity
from align.losses.vicreg import VICReg, covariance, variance, vicreg
from align.losses.wrappers import Bank, HardNegatives, Matryoshka, MemoryQueue, MixGeodesic, Window

__all__ = [
    "AlignUniform",
    "Bank",
    "ConFu",
    "Distill",
    "GatedSymile",
    "Gram",
    "HardNegatives",
    "Hinge",
    "InfoNCE",
    "LateInteraction",
    "Loss",
    "Matryoshka",
    "MemoryQueue",
    "MixGeodesic",
    "OneVsAll",
    "PullToMean",
    "Regress",
    "SigLIP",
    "Symile",
    "Transport",
    "Triangle",
    "VICReg",
    "Window",
    "alignment",
    "confu",
    "covariance",
    "distill",
    "gated_symile",
    "gram",
    "gram_volume",
    "hinge",
    "infonce",
    "late_interaction",
    "mip",
    "one_vs_all",
    "pull_to_mean",
    "regress",
    "siglip",
    "sinkhorn",
    "span_lengths",
    "symile",
    "transport",
    "triangle",
    "triangle_area",
    "uniformity",
    "variance",
    "vicreg",
]

FLOORS = (
    ("kernels", "kinds"),  # the machinery, and the facts about each kind of loss
    ("loss",),  # the interface of every module
    ("adopt", "temperature"),  # modules of other classes, and the learned scale
    ("anchored", "gate", "sinkhorn", "uniformity"),  # parts of other losses
    (
        "distillation",
        "gated_symile",
        "gram",
        "infonce",
        "late_interaction",
        "mip",
        "one_vs_all",
        "pull_to_mean",
        "ranking",
        "regression",
        "siglip",
        "symile",
        "transport",
        "triangle",
        "vicreg",
    ),
    ("confu",),  # of several calls of infonce
    ("wrappers",),
)
"""Files and folders of this room, the lowest floor first. A file imports lower floors only."""
