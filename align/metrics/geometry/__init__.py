"""Geometry of a space: distances, spectra and neighbourhoods of rows on the unit sphere, a measure a file.

A measure returns an ``Estimate``: its value, and a value of each row whose mean it is. An interval by samples follows
from these. Memory beside the embeddings does not grow with D or with the pairs of rows: every measure reads blocks.
"""

from align.metrics.geometry.cka import cka
from align.metrics.geometry.depth import depth, mean_depth
from align.metrics.geometry.estimate import Estimate
from align.metrics.geometry.gap import alignment, gap
from align.metrics.geometry.neighbours import Neighbourhood, neighbourhood, overlap, uniformity
from align.metrics.geometry.plane import Plane, plane
from align.metrics.geometry.rows import UnitRows
from align.metrics.geometry.rsa import dissimilarities, mantel, rsa
from align.metrics.geometry.separability import separability
from align.metrics.geometry.spectrum import Moments, effective_rank, isotropy, moments

__all__ = [
    "Estimate",
    "Moments",
    "Neighbourhood",
    "Plane",
    "UnitRows",
    "alignment",
    "cka",
    "depth",
    "dissimilarities",
    "effective_rank",
    "gap",
    "isotropy",
    "mantel",
    "mean_depth",
    "moments",
    "neighbourhood",
    "overlap",
    "plane",
    "rsa",
    "separability",
    "uniformity",
]
