"""Scores of averages of models on held-out shards. One model is loaded, and gets the weights of each average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from typing import Any, final

from align.data import Shards
from align.evaluation import evaluate
from align.model import JointModel
from align.soup.fill import fill
from align.soup.ingredients import Ingredient
from align.values import Scores

SHOWN = ("/accuracy", "/recall@1")  # ends of the scores that are shown where none is named


@final
class Measure:
    """The scores of an average of models, by set of shards.

    Args:
        model: of the ingredients' architecture. Its weights are overwritten.
        sets: name -> shards. The first set chooses.
        wanted: patterns of the scores to give. None: those that end in /accuracy or /recall@1.
        settings: further arguments of ``align.evaluate``.
        watch: opens around each evaluation, from its name, and gives the ``progress`` for it.
    """

    def __init__(
        self,
        model: JointModel,
        ingredients: Sequence[Ingredient],
        sets: Mapping[str, Shards],
        wanted: Sequence[str],
        settings: Mapping[str, Any],
        watch: Callable[[str], AbstractContextManager[Any]],
    ):
        self.model, self.ingredients, self.sets, self.wanted = model, ingredients, sets, list(wanted)
        self.settings, self.watch = settings, watch

    @property
    def rule(self) -> str:
        """Words for the value by which a soup is chosen."""
        score = self.wanted[0] if len(self.wanted) == 1 else "the mean of the scores"
        return f"{score} on {next(iter(self.sets))}"

    def scores(self, shares: Sequence[float]) -> dict[str, Scores]:
        """Return set -> the wanted scores of the average with these shares.

        Raises ValueError where the evaluators give none of them, and as ``evaluate`` does.
        """
        fill(self.model, self.ingredients, shares)
        said = ", ".join(
            f"{share:.3g} {one.name}" for share, one in zip(shares, self.ingredients, strict=True) if share
        )
        out = {}
        for name, shards in self.sets.items():
            with self.watch(f"{name}: {said}") as progress:
                results = evaluate(self.model, shards, draws=0, progress=progress, **self.settings)
            out[name] = self._choose(results.scores)
        return out

    def value(self, scores: Mapping[str, Scores]) -> float:
        """Return the mean of the first set's scores, by which a soup is chosen."""
        first = next(iter(scores.values()))
        return sum(first.values()) / len(first)

    def _choose(self, scores: Scores) -> Scores:
        some = ", ".join(list(scores)[:6])
        for pattern in self.wanted:
            if not any(fnmatchcase(name, pattern) for name in scores):
                raise ValueError(f"the evaluators give no score {pattern}; they give {some}, …")
        patterns = self.wanted or [f"*{end}" for end in SHOWN]
        chosen = {name: x for name, x in scores.items() if any(fnmatchcase(name, pattern) for pattern in patterns)}
        if not chosen:
            raise ValueError(f"no score ends in {' or '.join(SHOWN)}; name one with --score: {some}, …")
        return chosen
