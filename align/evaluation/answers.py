"""Answers of zero-shot classification to rows that have a class, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.metrics import ranks, recall_at
from align.scoring import How, choose, score
from align.values import Scores, TermInfo

chunk = 4096  # queries scored at a time
cells = 1 << 20  # scores held at a time, of which there are some ten copies


class Answers(NamedTuple):
    """Answers to the q rows that have a class.

    rank: (q,) of the best right class, 0 where a row found nothing. answer: (q,) class, -1 where the highest score is
    that of several. confidence: (q,) of the answer, None where no trained term gives a scale. target: (q,) the class,
    -1 of a row with several. support: (C,) rows of each class.
    """

    rank: Tensor
    answer: Tensor
    confidence: Tensor | None
    target: Tensor
    support: Tensor
    how: How

    @property
    def chance(self) -> float:
        """The expected accuracy of a blind guess."""
        return int(self.support.sum()) / (len(self.rank) * len(self.support))


def answer(
    query: Mapping[str, Tensor],
    rows: Tensor,
    prompts: Tensor,
    table: Tensor,
    sample: Tensor,
    *,
    terms: Sequence[TermInfo],
    text: str,
) -> Answers:
    """Return the answers to the rows (q,) of a query, a block at a time.

    query: {modality: (n, D)}. table: (B, C) bool, the classes of samples. sample: (q,), the place of each row in it.
    """
    how = choose(terms, query, text)
    step = min(chunk, max(1, cells // max(1, len(prompts))))
    found, support = [], torch.zeros(len(prompts), dtype=torch.int64)
    for some, places in zip(rows.split(step), sample.split(step), strict=True):
        scores = score({m: x[some] for m, x in query.items()}, prompts, how, of=text, terms=terms)  # (q, C)
        right = table[places]
        best = scores.amax(dim=1, keepdim=True)
        alone = (scores == best).sum(dim=1) == 1
        support += right.sum(dim=0)
        found.append(
            (
                ranks(scores, right),  # with several classes a row, any of them is right
                torch.where(alone, scores.argmax(dim=1), -1),
                1 / (scores - best).double().exp().sum(dim=1),  # the softmax of the best
                torch.where(right.sum(dim=1) == 1, right.int().argmax(dim=1), -1),
            )
        )
    rank, answered, confidence, target = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Answers(rank, answered, confidence if how == "objective" else None, target, support, how)


def accuracies(found: Answers, classes: int, ks: Sequence[int]) -> Scores:
    """Return accuracy, and accuracy@k for each k above 1 and below the number of classes."""
    wanted = [k for k in ks if k == 1 or k < classes]
    return {"accuracy" if k == 1 else f"accuracy@{k}": recall_at(found.rank, k) for k in wanted}
