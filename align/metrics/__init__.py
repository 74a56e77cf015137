"""Numbers from scores. Ties never help: rank = 1 + strictly better + equal and wrong.

An embedding that says nothing scores 0 in every metric. A row whose scores are all the same, or all NaN, has found
nothing. A single NaN is worse than any number for a hit and better than any for a wrong candidate.
"""

from align.metrics.accuracy import accuracy, accuracy_at
from align.metrics.hubness import (
    antihub_share,
    count_occurrences,
    find_nearest,
    hub_bound,
    hub_share,
    robin_hood,
    skewness,
)
from align.metrics.precision import mean_average_precision, mean_precision
from align.metrics.recall import mean_reciprocal_rank, median_rank, ranks, recall_at

__all__ = [
    "accuracy",
    "accuracy_at",
    "antihub_share",
    "count_occurrences",
    "find_nearest",
    "hub_bound",
    "hub_share",
    "mean_average_precision",
    "mean_precision",
    "mean_reciprocal_rank",
    "median_rank",
    "ranks",
    "recall_at",
    "robin_hood",
    "skewness",
]
