"""Values that flow between the rooms: Sample, Rows, Batch, Features, Embeddings, TermInfo, Origin, FeatureOrigin,
Scores, BadSample.

Letters, used everywhere: B samples on this rank, N samples on all ranks, n rows of a modality, D shared dim, W encoder
width, L tokens, T time, C H W as torch has them, P points.
"""

from align.values.facts import FeatureOrigin, Origin, Scores, TermInfo
from align.values.rows import Features, Rows, Values
from align.values.sample import GRADES, BadSample, Sample
from align.values.table import Batch, Embeddings, Table

__all__ = [
    "GRADES",
    "BadSample",
    "Batch",
    "Embeddings",
    "FeatureOrigin",
    "Features",
    "Origin",
    "Rows",
    "Sample",
    "Scores",
    "Table",
    "TermInfo",
    "Values",
]
