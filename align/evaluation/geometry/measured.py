"""Scores of geometry with the values of their samples, as they are measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from torch import Tensor

from align.metrics.geometry import Estimate, Neighbourhood, UnitRows, neighbourhood
from align.values import Scores


@final
@dataclass
class Measured:
    """Findings so far. scores: name -> value. samples: name -> (values (n,), sample (n,)). counts: facts by name, for
    the protocol."""

    scores: Scores = field(default_factory=dict)
    samples: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    _near: dict[tuple[str, int], Neighbourhood] = field(default_factory=dict)

    def add(self, name: str, estimate: Estimate, sample: Tensor) -> None:
        """Note a score and the values of its samples."""
        self.scores[name] = estimate.value
        self.samples[name] = (estimate.values, sample)

    def count(self, kind: str, name: str, n: int) -> None:
        """Note a number for the protocol, such as the samples of a pair."""
        self.counts.setdefault(kind, {})[name] = n

    def near(self, name: str, rows: UnitRows, k: int) -> Neighbourhood:
        """Return the neighbourhood of rows, computed one time for the same rows of the table ``name``.

        k: the neighbours asked for. Of fewer than k + 2 rows there are n - 2.
        """
        chosen = 0 if rows.index is None else hash(rows.index.numpy().tobytes())
        if (name, chosen) not in self._near:
            self._near[name, chosen] = neighbourhood(rows, min(k, len(rows) - 2))
        return self._near[name, chosen]

    def ties(self) -> list[str]:
        """Return a note for each modality some of whose neighbours tie with the next one, and so do not count."""
        shares: dict[str, float] = {}
        for (name, _), found in self._near.items():
            shares[name] = max(shares.get(name, 0.0), float((found.nearest < 0).double().mean()))
        return [
            f"geometry: {share:.1%} of the nearest rows of {name} tie with the next one: they are no neighbours"
            for name, share in shares.items()
            if share > 0
        ]
