"""Losses, one a file: arithmetic over dense tensors and sample ids, for any training loop.

Functions take the multiplier ``scale``. The modules of the same names hold a learned one.
"""

from align.losses.capro import CAPro
from align.losses.confu import ConFu, confu
from align.losses.decoupling import Decouple, decouple
from align.losses.deep_cca import DeepCCA, deep_cca
from align.losses.distillation import Distill, distill
from align.losses.flops import Flops, flops
from align.losses.gated_symile import GatedSymile, gated_symile
from align.losses.gating import Balance, Route, balance, route
from align.losses.gram import Gram, gram, gram_volume
from align.losses.infonce import InfoNCE, infonce
from align.losses.late_interaction import LateInteraction, late_interaction
from align.losses.loss import Loss
from align.losses.masked_tokens import MaskedTokens, masked_tokens
from align.losses.mip import mip
from align.losses.one_vs_all import OneVsAll, one_vs_all, span_lengths
from align.losses.prototypes import Prototypes, prototypes
from align.losses.pull_to_mean import PullToMean, pull_to_mean
from align.losses.ranking import Hinge, hinge
from align.losses.regression import Regress, regress
from align.losses.siglip import SigLIP, siglip
from align.losses.simplex import Simplex, simplex, simplex_vertices
from align.losses.sinkhorn import sinkhorn
from align.losses.symile import Symile, symile
from align.losses.transport import Transport, transport
from align.losses.triangle import Triangle, triangle, triangle_area
from align.losses.uniformity import AlignUniform, alignment, uniformity
from align.losses.vicreg import VICReg, covariance, variance, vicreg
from align.losses.wasserstein import Wasserstein, wasserstein
from align.losses.wrappers import (
    Across,
    Bank,
    HardNegatives,
    Layers,
    Matryoshka,
    MemoryQueue,
    Metrix,
    MixGeodesic,
    PrimaryComponents,
    Relatives,
    Spaces,
    Views,
    Window,
)

__all__ = [
    "Across",
    "AlignUniform",
    "Balance",
    "Bank",
    "CAPro",
    "ConFu",
    "Decouple",
    "DeepCCA",
    "Distill",
    "Flops",
    "GatedSymile",
    "Gram",
    "HardNegatives",
    "Hinge",
    "InfoNCE",
    "LateInteraction",
    "Layers",
    "Loss",
    "MaskedTokens",
    "Matryoshka",
    "MemoryQueue",
    "Metrix",
    "MixGeodesic",
    "OneVsAll",
    "PrimaryComponents",
    "Prototypes",
    "PullToMean",
    "Regress",
    "Relatives",
    "Route",
    "SigLIP",
    "Simplex",
    "Spaces",
    "Symile",
    "Transport",
    "Triangle",
    "VICReg",
    "Views",
    "Wasserstein",
    "Window",
    "alignment",
    "balance",
    "confu",
    "covariance",
    "decouple",
    "deep_cca",
    "distill",
    "flops",
    "gated_symile",
    "gram",
    "gram_volume",
    "hinge",
    "infonce",
    "late_interaction",
    "masked_tokens",
    "mip",
    "one_vs_all",
    "prototypes",
    "pull_to_mean",
    "regress",
    "route",
    "siglip",
    "simplex",
    "simplex_vertices",
    "sinkhorn",
    "span_lengths",
    "symile",
    "transport",
    "triangle",
    "triangle_area",
    "uniformity",
    "variance",
    "vicreg",
    "wasserstein",
]

FLOORS = (
    ("kernels", "kinds"),  # the machinery, and the facts about each kind of loss
    ("loss",),  # the interface of every module
    ("adopt", "temperature"),  # modules of other classes, and the learned scale
    ("anchored", "gate", "sinkhorn", "uniformity"),  # parts of other losses
    (
        "capro",
        "decoupling",
        "deep_cca",
        "distillation",
        "gated_symile",
        "flops",
        "gating",
        "gram",
        "infonce",
        "late_interaction",
        "masked_tokens",
        "mip",
        "one_vs_all",
        "prototypes",
        "pull_to_mean",
        "ranking",
        "regression",
        "siglip",
        "simplex",
        "symile",
        "transport",
        "triangle",
        "vicreg",
        "wasserstein",
    ),
    ("confu",),  # of several calls of infonce
    ("wrappers",),
)
"""Files and folders of this room, the lowest floor first. A file imports lower floors only."""
