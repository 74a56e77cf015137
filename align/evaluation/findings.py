"""The promise of every evaluator, and the findings that it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, final

from torch import Tensor

from align.evaluation.space import Space
from align.page.section import Section
from align.values import Scores

Samples = Mapping[str, tuple[Tensor, Tensor]]
"""Score -> (value (q,), sample (q,)) of each query that counts. The mean of the values is the score."""


@final
@dataclass(frozen=True)
class Findings:
    """Numbers of one evaluator, with all that is needed to read them.

    scores: flat names -> numbers. protocol: entries of the protocol, where "notes" is a list of lines for people.
    section: its part of a page and of the terminal, None where there is nothing to show. samples: the values of single
    queries, for intervals.
    """

    scores: Scores
    protocol: Mapping[str, Any] = field(default_factory=dict)
    section: Section | None = None
    samples: Samples = field(default_factory=dict)


class Evaluator(Protocol):
    """A measurement of a joint space. ``align evaluate --with`` picks it by its name, or by its import path."""

    name: str

    def run(self, space: Space) -> Findings:
        """Return the findings. They have no scores where the space has nothing to measure."""
        ...
