"""Zero-shot classification of one attribute from one modality: all scores, and the values of single rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.against_rest import AgainstRest, Asked, choose_measures, measure_against_rest
from align.evaluation.answers import Answers, accuracies, answer
from align.evaluation.samples import Samples, Statistics, proportion
from align.metrics import calibration_error, mean_per_class
from align.metrics.by_class import weighted_mean_per_class
from align.metrics.calibration import weighted_calibration_error
from align.metrics.intervals import Statistic
from align.values import Scores, TermInfo


class Classified(NamedTuple):
    """Zero-shot of one attribute from one modality. sample: (q,) of the answered rows. labels: of the C classes.

    single: each row has one class. rest: each class against the rest, None where it is not measured.
    """

    scores: Scores
    answers: Answers
    sample: Tensor
    labels: list[str]
    single: bool
    rest: AgainstRest | None
    samples: Samples
    statistics: Statistics


def classify_rows(
    query: Mapping[str, Tensor],
    rows: Tensor,
    prompts: Tensor,
    table: Tensor,
    sample: Tensor,
    labels: list[str],
    *,
    terms: Sequence[TermInfo],
    text: str,
    specificity: float | None = None,
    intervals: bool = True,
) -> Classified:
    """Return the scores of rows against class prompts.

    query: {modality: (n, D)}. rows: (q,), those of them that have a class. prompts: (C, D). table: (B, C) bool, the
    classes of samples. sample: (q,), the place of each row in it. intervals: with the values of rows that give the
    intervals of measures of a class against the rest.
    """
    found = answer(query, rows, prompts, table, sample, terms=terms, text=text)
    scores = accuracies(found, len(labels), (1, 5))
    samples: dict[str, tuple[Tensor, Tensor]] = {}
    for key in scores:
        k = int(key.partition("@")[2] or 1)
        samples[key] = (((found.rank > 0) & (found.rank <= k)).float(), sample)
    statistics: dict[str, Statistic] = dict.fromkeys(samples, proportion)
    right, single = (found.rank == 1).float(), bool((found.target >= 0).all())
    if single:
        scores["mean_per_class"] = mean_per_class(right, found.target)
        samples["mean_per_class"] = (torch.stack([right, found.target.float()], dim=1), sample)
        statistics["mean_per_class"] = weighted_mean_per_class
    if single and found.confidence is not None:
        scores["ece"] = calibration_error(found.confidence, right)
        samples["ece"] = (torch.stack([found.confidence, right.double()], dim=1), sample)
        statistics["ece"] = weighted_calibration_error
    measures = choose_measures(not single or len(labels) == 2, specificity)
    rest = None
    if measures:
        asked = Asked(query, rows, prompts, found.how, text, terms)
        rest = measure_against_rest(asked, table, sample, measures, exclusive=single, intervals=intervals)
        scores, samples = scores | rest.scores, samples | dict(rest.samples)
        statistics |= rest.statistics
    scores["chance"] = found.chance
    return Classified(scores, found, sample, labels, single, rest, samples, statistics)
