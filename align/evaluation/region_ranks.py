"""Ranks of regions for phrases, and the boxes that phrases point into."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics import ranks
from align.values import Rows

BLOCK = 512  # phrases that ask at a time


class RegionRanks(NamedTuple):
    """Ranks of the best right region for q phrases, 0 for none.

    rank: (q,) among all regions. within: (q,) among those of the phrase's picture. answers: (q,) right regions in the
    picture. chance: (q,) share of right regions there, 0 where it has none.
    """

    rank: Tensor
    within: Tensor
    answers: Tensor
    chance: Tensor


def number_phrases(phrases: Rows, regions: Rows) -> tuple[Tensor, Tensor]:
    """Return (q,) and (n,), equal for a phrase and a region that belong together.

    Phrases of equal content have one number, and a region has that of the phrase of its sample and part, -1 for none.
    """
    assert phrases.part is not None
    assert regions.part is not None
    known: dict[object, int] = {}
    content = torch.full_like(phrases.sample, -1) if phrases.content is None else phrases.content
    of_part: dict[tuple[int, int], int] = {}
    numbers = []
    for s, part, same in zip(phrases.sample.tolist(), phrases.part.tolist(), content.tolist(), strict=True):
        number = known.setdefault(same if same >= 0 else (s, part), len(known))
        numbers.append(number)
        of_part.setdefault((s, part), number)
    theirs = [of_part.get(pair, -1) for pair in zip(regions.sample.tolist(), regions.part.tolist(), strict=True)]
    return torch.tensor(numbers, dtype=torch.int64), torch.tensor(theirs, dtype=torch.int64)


def find_ranks(
    phrase: Tensor, phrase_sample: Tensor, phrase_number: Tensor, region: Tensor, sample: Tensor, number: Tensor
) -> RegionRanks:
    """Return the ranks of q unit phrases (q, D) for n unit regions (n, D), each with its sample and number."""
    parts = []
    for at in torch.arange(len(phrase)).split(BLOCK):
        scores = (phrase[at] @ region.T).float()  # (q', n)
        right = phrase_number[at, None] == number
        here = phrase_sample[at, None] == sample
        within = ranks(scores.masked_fill(~here, -torch.inf), right & here, ~here)
        answers = (right & here).sum(1)
        parts.append((ranks(scores, right), within, answers, answers / here.sum(1).clamp(min=1)))
    if not parts:
        none = torch.zeros(0, dtype=torch.int64)
        return RegionRanks(none, none, none, none.double())
    return RegionRanks(*(torch.cat(column) for column in zip(*parts, strict=True)))


def point(
    place: Tensor, phrase_sample: Tensor, phrase_number: Tensor, box: Tensor, sample: Tensor, number: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (q,) bool, the place lies in a right box of its picture, and (q,) the share of the picture in these boxes.

    place: (q, 2), x and y in fractions. box: (n, 4) of regions, each with its sample and number. The share is the sum
    over the boxes, 1 at most.
    """
    hits, shares = [], []
    for at in torch.arange(len(place)).split(BLOCK):
        right = (phrase_number[at, None] == number) & (phrase_sample[at, None] == sample)  # (q', n)
        x, y = place[at, 0, None], place[at, 1, None]
        inside = (box[:, 0] <= x) & (x < box[:, 2]) & (box[:, 1] <= y) & (y < box[:, 3])
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        hits.append((right & inside).any(1))
        shares.append((right * area).sum(1).clamp(max=1))
    none = torch.zeros(0)
    return (torch.cat(hits), torch.cat(shares)) if hits else (none.bool(), none)
