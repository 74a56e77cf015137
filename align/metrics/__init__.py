"""Numbers from scores. Ties never help: rank = 1 + strictly better + equal and wrong.

An embedding that says nothing scores 0 in every metric of ranks. A row whose scores are all the same, or all NaN, has
found nothing. A single NaN is worse than any number for a hit and better than any for a wrong candidate.

Metrics of a class against the rest are as scikit-learn has them: the AUROC of an embedding that says nothing is 1/2,
and its average precision the share of positives.
"""

from align.metrics.accuracy import accuracy, accuracy_at
from align.metrics.binary import auroc, average_precision, sensitivity_at
from align.metrics.by_class import mean_per_class
from align.metrics.calibration import calibration_error
from align.metrics.gain import graded_gains, hit_gains
from align.metrics.hubness import (
    antihub_share,
    count_occurrences,
    find_nearest,
    hub_bound,
    hub_share,
    robin_hood,
    skewness,
)
from align.metrics.places import Places, hit_places
from align.metrics.precision import average_precisions, mean_average_precision
from align.metrics.recall import mean_reciprocal_rank, median_rank, ranks, recall_at, reciprocal_ranks, weighted_median

__all__ = [
    "Places",
    "accuracy",
    "accuracy_at",
    "antihub_share",
    "auroc",
    "average_precision",
    "average_precisions",
    "calibration_error",
    "count_occurrences",
    "find_nearest",
    "graded_gains",
    "hit_gains",
    "hit_places",
    "hub_bound",
    "hub_share",
    "mean_average_precision",
    "mean_per_class",
    "mean_reciprocal_rank",
    "median_rank",
    "ranks",
    "recall_at",
    "reciprocal_ranks",
    "robin_hood",
    "sensitivity_at",
    "skewness",
    "weighted_median",
]

FLOORS = (
    ("agreement", "geometry", "intervals", "paired", "recall"),
    ("accuracy", "binary", "by_class", "calibration", "hubness", "neighbours", "overlap", "places"),
    ("gain", "influence", "precision"),
)
