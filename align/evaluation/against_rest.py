"""Each class against the rest: average precision, AUROC and sensitivity, as means over classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from align.evaluation.samples import Samples, Statistics
from align.metrics.binary import Measure, count_above, macro, precision_area, roc_area, sensitivity_of
from align.metrics.influence import Influence, precision_influence, roc_influence, sensitivity_influence
from align.scoring import How, score
from align.values import TermInfo

CELLS = 1 << 22  # scores held at a time
RESAMPLED = 1 << 17  # scores, up to which all of them are drawn again for an interval
ROWS = 4096  # rows scored at a time

AREAS: Mapping[str, tuple[Measure, Influence]] = {
    "map": (precision_area, precision_influence),
    "auroc": (roc_area, roc_influence),
}


class AgainstRest(NamedTuple):
    """Measures of each class against the rest. by_class: measure -> (C,), nan where a class does not have it.

    samples, statistics: as of ``Findings``, by measure.
    """

    by_class: dict[str, Tensor]
    samples: Samples
    statistics: Statistics

    @property
    def scores(self) -> dict[str, float]:
        """Measure -> its mean over the classes that have it."""
        return {name: float(values.nanmean()) for name, values in self.by_class.items()}


class Asked(NamedTuple):
    """Rows that are scored against class prompts. query: {modality: (n, D)}. rows: (q,), those of them that count."""

    query: Mapping[str, Tensor]
    rows: Tensor
    prompts: Tensor
    how: How
    of: str
    terms: Sequence[TermInfo]

    def scores(self, rows: slice, classes: slice) -> Tensor:
        """Return (rows, classes) float32, computed in float64, so that equal rows tie whatever block they are in."""
        part = {m: x[self.rows[rows]].double() for m, x in self.query.items()}
        return score(part, self.prompts[classes].double(), self.how, of=self.of, terms=self.terms).float()


def choose_measures(areas: bool, specificity: float | None) -> dict[str, tuple[Measure, Influence]]:
    """Return measure -> its functions. areas: with average precision and AUROC. specificity: of the sensitivity."""
    found = dict(AREAS) if areas else {}
    if specificity is not None:
        name = f"sensitivity@specificity{specificity:g}"
        found[name] = (sensitivity_of(specificity), sensitivity_influence(specificity))
    return found


def measure_against_rest(
    asked: Asked,
    table: Tensor,
    sample: Tensor,
    measures: Mapping[str, tuple[Measure, Influence]],
    *,
    exclusive: bool,
    intervals: bool,
) -> AgainstRest:
    """Return the measures of each class, one against the rest.

    Args:
        table: (B, C) bool, the classes of the samples. sample: (q,), the place of each asked row in it.
        exclusive: a row has one class alone. Its score for a class is then how far the class is above the best other
            one, so that of two classes both have the same AUROC. Else it is the score of the class.
        intervals: with values of single rows. Up to ``RESAMPLED`` scores they are the scores themselves, from which
            the bootstrap computes the measures. Of more, they are the rows' influences (``align.metrics.influence``).
    """
    q, classes = len(sample), len(asked.prompts)
    whole = intervals and q * classes <= RESAMPLED
    by_class = {name: torch.full((classes,), torch.nan, dtype=torch.float64) for name in measures}
    sums = {name: torch.zeros(q if intervals and not whole else 0, dtype=torch.float64) for name in measures}
    kept = torch.zeros(q if whole else 0, 2, classes)
    for start, scores in _columns(asked, exclusive):
        for c, column in enumerate(scores.unbind(dim=1), start):
            positive = table[:, c][sample]
            if whole:
                kept[:, 0, c], kept[:, 1, c] = column, positive
            if not bool(positive.any()):
                continue
            counts = count_above(column, positive)
            for name, (measure, influence) in measures.items():
                value = measure(counts)[0]
                by_class[name][c] = value
                if len(sums[name]) and bool(value.isfinite()):
                    sums[name] += influence(counts, positive)
    samples, statistics = {}, {}
    for name, (measure, _) in measures.items() if intervals else ():
        samples[name] = (kept.clone() if whole else (sums[name] / by_class[name].isfinite().sum()).float(), sample)
        if whole:
            statistics[name] = macro(measure)
    return AgainstRest(by_class, samples, statistics)


def _columns(asked: Asked, exclusive: bool) -> Iterator[tuple[int, Tensor]]:
    """Yield (the first class, the scores (q, some)) of some classes at a time."""
    q, classes = len(asked.rows), len(asked.prompts)
    best = torch.cat([_best_two(asked, rows) for rows in _slices(q, classes)]) if exclusive and q else None
    step = max(1, CELLS // max(1, q))
    for start in range(0, classes, step):
        some = slice(start, min(classes, start + step))
        found = torch.empty(q, some.stop - start)
        for rows in _slices(q, some.stop - start):
            found[rows] = asked.scores(rows, some)
        if best is not None:
            first = torch.arange(start, some.stop) == best[:, 2:]  # (q, some) bool
            found -= torch.where(first, best[:, 1:2], best[:, :1])
        yield start, found


def _best_two(asked: Asked, rows: slice) -> Tensor:
    """Return (rows, 3): the highest score of a row, the second highest, and the class of the highest."""
    scores = asked.scores(rows, slice(0, len(asked.prompts)))
    value, place = scores.topk(min(2, scores.shape[1]), dim=1)
    second = value[:, -1:] if scores.shape[1] > 1 else torch.full_like(value, -torch.inf)
    return torch.cat([value[:, :1], second, place[:, :1].float()], dim=1)


def _slices(q: int, classes: int) -> Iterator[slice]:
    step = min(ROWS, max(1, CELLS // max(1, classes)))
    for start in range(0, q, step):
        yield slice(start, min(q, start + step))
