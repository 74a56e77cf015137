"""Changes between decode and eval: noise, blur or cut sound, as a robustness test makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch

from align.embedding.content import Around, number
from align.preprocess import Preprocess
from align.seeds import generator as seeded

Change = Callable[[Any, torch.Generator], Any]
"""(a decoded row, a generator) -> the row to evaluate instead. It must be picklable where workers are not forked."""


@final
class Altered(Around):
    """A preprocess that changes each decoded row before ``eval``.

    The generator is seeded from (seed, modality, content of the row), so batches, workers and the order of samples
    change nothing, and rows of equal content stay equal.
    """

    def __init__(self, inner: Preprocess, changes: Sequence[Change], seed: int, modality: str):
        super().__init__(inner)
        self.changes, self.seed, self.modality = changes, seed, modality

    def row(self, source: Any, generator: torch.Generator | None = None) -> Any:
        draws = seeded("altered", self.seed, self.modality, number(source, self.text))
        x = self.decode(source)
        for change in self.changes:
            x = change(x, draws)
        return self.eval(x) if generator is None else self.train(x, generator)
