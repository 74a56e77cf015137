"""The promise of every evaluator, and the findings that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, final

from align.evaluation.samples import Intervals, Samples, Statistics
from align.evaluation.space import Space
from align.page.section import Section
from align.values import Scores


@final
@dataclass(frozen=True)
class Findings:
    """Numbers of one evaluator, with all that is needed to read them.

    scores: flat names -> numbers. protocol: entries of the protocol, where "notes" is a list of lines for people.
    section: its part of a page and of the terminal, None where there is nothing to show. samples: the values of single
    queries, from which the intervals follow and by which two runs are compared. statistics: score -> the function that
    makes it of its samples, where that is not their mean. ``samples.proportion`` is that of an accuracy. intervals:
    those that the evaluator computed itself, mostly by ``Space.intervals`` to show them in its section.
    """

    scores: Scores
    protocol: Mapping[str, Any] = field(default_factory=dict)
    section: Section | None = None
    samples: Samples = field(default_factory=dict)
    statistics: Statistics = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)


class Evaluator(Protocol):
    """A measurement of a joint space. ``align evaluate --with`` picks it by its name, or by its import path."""

    name: str

    def run(self, space: Space) -> Findings:
        """Return the findings. They have no scores where the space has nothing to measure."""
        ...
