"""Hubness: how unevenly candidates occur among the best k of the queries, by counts of these occurrences.

N_k of a candidate is the number of queries that have it among their best k (Radovanović et al. 2010, JMLR 11). Ties
never help: a candidate is among the best k where at most k candidates, itself among them, score as high. So equal
candidates at the border occur in no list, and in a constant space nothing occurs: every candidate is an antihub.
"""

from __future__ import annotations

import torch
from torch import Tensor

from align.metrics.recall import check_k


def find_nearest(scores: Tensor, k: int) -> Tensor:
    """Return the places of each query's best k candidates, (q, k) int64, with -1 where a list is shorter.

    scores: (q, c), higher is better. A NaN is worse than any number. A row whose scores are all the same lists nothing.
    Raises ValueError for another shape, and for a k below 1 or of c or more, whose lists would hold every candidate.
    """
    check_k(k)
    if scores.ndim != 2 or k >= scores.shape[1]:
        raise ValueError(
            f"the best {k} of scores (q, c) need more than {k} candidates; got scores {tuple(scores.shape)}"
        )
    best, place = scores.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).topk(k + 1, dim=1)
    return torch.where(best[:, :k] > best[:, k:], place[:, :k], -1)


def count_occurrences(nearest: Tensor, candidates: int) -> Tensor:
    """Return N_k of each of the candidates, (c,) int64. nearest: (q, k) places, of which those below 0 do not count."""
    places = nearest.flatten()
    return torch.bincount(places[places >= 0], minlength=candidates)


def skewness(counts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the skewness of the counts (c,) under each draw's weights (draws, c), as (draws,) float64.

    It is E[(N - mean)³] / sd³ (Radovanović et al. 2010), the biased estimate. It is 0 where all counts are
    equal. weights: None: 1 for each count, one draw.
    """
    value, share = _shares(counts, weights)
    centred = value - (share @ value)[:, None]  # (draws, v)
    spread = (share * centred**2).sum(1)
    third = (share * centred**3).sum(1)
    return torch.where(spread > 0, third / spread.clamp(min=torch.finfo(torch.float64).tiny) ** 1.5, 0.0)


def antihub_share(counts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the share of candidates that occur in no list (Radovanović et al. 2010), as (draws,)."""
    value, share = _shares(counts, weights)
    return share @ (value == 0).double()


def hub_share(counts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the share of hubs, as (draws,): candidates above ``hub_bound``."""
    value, share = _shares(counts, weights)
    mean = (share @ value)[:, None]
    bound = mean + 2 * (share * (value - mean) ** 2).sum(1, keepdim=True).sqrt()
    return (share * (value > bound)).sum(1)


def hub_bound(counts: Tensor) -> float:
    """Return the count above which a candidate is a hub: the mean and two standard deviations.

    Radovanović et al. 2010 single out hubs so. A bound of 2 k (Feldbauer et al. 2018) presumes as many queries as
    candidates, which retrieval seldom has.
    """
    x = counts.double()
    return float(x.mean() + 2 * x.std(correction=0)) if len(x) else 0.0


def robin_hood(counts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the Robin Hood index, as (draws,): the share of all places that would make the counts equal if moved.

    It is Σ|N - mean| / 2 ΣN (Feldbauer et al. 2018, ICBK, doi:10.1109/ICBK.2018.00055), from 0 to 1. It is
    0 where nothing occurs.
    """
    value, share = _shares(counts, weights)
    mean = (share @ value)[:, None]
    apart = (share * (value - mean).abs()).sum(1)
    return torch.where(mean[:, 0] > 0, apart / (2 * mean[:, 0]).clamp(min=torch.finfo(torch.float64).tiny), 0.0)


def _shares(counts: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the distinct counts (v,) and the weight of each as a share of its draw's (draws, v), in float64."""
    value, place = counts.double().unique(return_inverse=True)
    weights = torch.ones(1, len(counts), dtype=torch.float64) if weights is None else weights.double()
    summed = weights.new_zeros(len(weights), len(value)).index_add_(1, place, weights)
    return value, summed / summed.sum(1, keepdim=True)
