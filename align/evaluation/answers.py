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
    how, q = choose(terms, query, text), len(rows)
    step = min(chunk, max(1, cells // max(1, len(prompts))))
    rank, answered, target = (torch.empty(q, dtype=torch.int64) for _ in range(3))
    confidence, support = torch.empty(q, dtype=torch.float64), torch.zeros(len(prompts), dtype=torch.int64)
    for start in range(0, q, step):  # results of blocks that outlive the next block would hold its memory
        part = slice(start, min(q, start + step))
        scores = score({m: x[rows[part]] for m, x in query.items()}, prompts, how, of=text, terms=terms)  # (rows, C)
        right = table[sample[part]]
        best = scores.amax(dim=1, keepdim=True)
        rank[part] = ranks(scores, right)  # with several classes a row, any of them is right
        answered[part] = torch.where((scores == best).sum(dim=1) == 1, scores.argmax(dim=1), -1)
        target[part] = torch.where(right.sum(dim=1) == 1, right.int().argmax(dim=1), -1)
        support += right.sum(dim=0)
        confidence[part] = 1 / (scores - best).double().exp().sum(dim=1)  # the softmax of the best
    return Answers(rank, answered, confidence if how == "objective" else None, target, support, how)


def accuracies(found: Answers, classes: int, ks: Sequence[int]) -> Scores:
    """Return accuracy, and accuracy@k for each k above 1 and below the number of classes."""
    wanted = [k for k in ks if k == 1 or k < classes]
    return {"accuracy" if k == 1 else f"accuracy@{k}": recall_at(found.rank, k) for k in wanted}
