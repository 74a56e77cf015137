"""Exact nearest rows of each sample among the rows of all others, in blocks, the same in every run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.curation.jobs.job import Progress

SAMPLES = 256  # of a block
ROWS = 8192  # of a block


class Pool(NamedTuple):
    """Rows of one modality that may be negatives.

    values: (R, W). number: (R,) the sample of each row, ascending. group: (R,) -1 for none. content: (R,) equal for
    rows of equal bytes.
    """

    values: Tensor
    number: Tensor
    group: Tensor
    content: Tensor


class Near(NamedTuple):
    """The nearest rows of S samples.

    row: (S, K) rows of the pool, the nearest first, equal ones in the pool's order, -1 where there are no more.
    score: (S, K) cosines. positive: (S,) the cosine of the sample's own row, of several the lowest.
    """

    row: np.ndarray
    score: np.ndarray
    positive: np.ndarray


def find_near(
    queries: Tensor, owner: Tensor, samples: Tensor, pool: Pool, count: int, progress: Progress | None = None
) -> Near:
    """Return the ``count`` rows of the pool that are nearest to each sample, by the best of its queries.

    A sample's own rows, rows of its group and rows with the content of an own row are no candidates.

    queries: (Q, W), owner: (Q,) the sample of each, ascending. samples: (S,) ascending numbers of samples, each with a
    query and a row in the pool.
    """
    queries, values = (F.normalize(x.float(), dim=1) for x in (queries, pool.values))
    parts = []
    for start in range(0, len(samples), SAMPLES):
        block = samples[start : start + SAMPLES]
        parts.append(_near_block(queries, owner, block, pool._replace(values=values), count))
        if progress is not None:
            progress(min(start + SAMPLES, len(samples)), len(samples))
    return Near(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _near_block(queries: Tensor, owner: Tensor, samples: Tensor, pool: Pool, count: int) -> Near:
    low, high = torch.searchsorted(owner, torch.stack([samples[0], samples[-1] + 1])).tolist()
    asked, of = queries[low:high], owner[low:high]
    kept = torch.isin(of, samples)
    asked, place = asked[kept], torch.searchsorted(samples, of[kept])  # (q, W), (q,)
    groups, contents = _facts(samples, pool)
    row = np.full((len(samples), 0), -1)
    score = np.full((len(samples), 0), -np.inf, dtype=np.float32)
    positive = torch.full((len(samples),), torch.inf)
    for first in range(0, len(pool.values), ROWS):
        part = Pool(*(x[first : first + ROWS] for x in pool))
        each = asked @ part.values.T  # (q, r)
        best = each.new_full((len(samples), each.shape[1]), -torch.inf)
        best = best.scatter_reduce(0, place[:, None].expand_as(each), each, "amax")
        belongs = part.number == samples[:, None]
        positive = torch.minimum(positive, torch.where(belongs, best, torch.inf).amin(1))
        out = belongs | ((part.group == groups[:, None]) & (part.group >= 0))
        for content in contents.unbind(1):
            out |= part.content == content[:, None]
        best.masked_fill_(out, -torch.inf)
        ids = np.broadcast_to(np.arange(first, first + best.shape[1]), best.shape)
        found = take_best(best.numpy(), ids, count)
        row, score = take_best(np.concatenate([score, found[1]], 1), np.concatenate([row, found[0]], 1), count)
    return Near(row, score, positive.numpy())


def _facts(samples: Tensor, pool: Pool) -> tuple[Tensor, Tensor]:
    """Return the group (S,) and the contents (S, K) of samples. Unused places repeat the first content."""
    first, end = (torch.searchsorted(pool.number, samples, right=right) for right in (False, True))
    place = torch.arange(int((end - first).max()))[None]
    place = first[:, None] + torch.where(place < (end - first)[:, None], place, 0)
    return pool.group[first], pool.content[place]


def take_best(score: np.ndarray, ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and scores (n, ``count``) of the best of each row (n, c), equal scores by the lower id.

    A score of -inf is no candidate. Unused places have the id -1 and the score -inf.
    """
    n, c = score.shape
    bound = -np.partition(-score, count - 1, axis=1)[:, count - 1 : count] if c > count else np.full((n, 1), -np.inf)
    rows, columns = np.nonzero((score >= bound) & (score > -np.inf))
    found, named = score[rows, columns], ids[rows, columns]
    order = np.lexsort((named, -found, rows))
    rows, found, named = rows[order], found[order], named[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = rank < count
    out = np.full((n, count), -1), np.full((n, count), -np.inf, dtype=score.dtype)
    out[0][rows[kept], rank[kept]], out[1][rows[kept], rank[kept]] = named[kept], found[kept]
    return out
