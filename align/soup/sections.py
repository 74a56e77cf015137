"""The results of a soup as sections of a page and of the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from align.page.section import Curve, Section, Table, Tile
from align.soup.curve import Step
from align.soup.greedily import Trial
from align.values import Scores


def uniform_section(
    names: Sequence[str],
    weights: Sequence[float],
    scores: Sequence[Mapping[str, Scores]],
    together: Mapping[str, Scores],
) -> Section:
    """Return a table of the models and their soup. scores: of each model, none where nothing was measured."""
    columns = _columns(together)
    rows = [
        [name, weight, *(one[of][score] for of, score in columns)]
        for name, weight, one in zip(names, weights, scores or [{}] * len(names), strict=True)
    ]
    if together:
        rows.append(["soup", sum(weights), *(together[of][score] for of, score in columns)])
    head = ["model", "weight", *(_title(of, score, together) for of, score in columns)]
    return Section("Soup", "The average of the models' weights.", [Table(head, rows)])


def greedy_section(names: Sequence[str], trials: Sequence[Trial], score: str) -> Section:
    """Return a table of the trials, in their order."""
    rows = [[names[one.model], one.alone, one.together, "yes" if one.taken else "no"] for one in trials]
    note = f"A model comes in where {score} of the soup with it is not below that of the soup without it."
    best = max((one.together for one in trials if one.taken), default=0.0)
    return Section(
        "Greedy soup", note, [Table(["model", "alone", "soup with it", "taken"], rows)], [Tile(score, best, "the soup")]
    )


def curve_section(first: str, second: str, steps: Sequence[Step], chosen: float) -> Section:
    """Return the curve between two models, as a table and as lines, and for two sets one against the other."""
    columns = _columns(steps[0].scores)
    sets = list(steps[0].scores)
    head = ["alpha", *(_title(of, score, steps[0].scores) for of, score in columns)]
    rows = [
        [f"{step.alpha:g}{' (chosen)' if step.alpha == chosen else ''}", *(step.scores[of][s] for of, s in columns)]
        for step in steps
    ]
    blocks: list[Table | Curve] = [Table(head, rows)]
    for score in dict.fromkeys(score for _, score in columns):
        lines = {of: [(step.alpha, step.scores[of][score]) for step in steps] for of in sets if (of, score) in columns}
        blocks.append(Curve(score, "alpha", score, lines))
    if len(sets) > 1:
        lines = {
            score: [(step.scores[sets[0]][score], step.scores[sets[1]][score]) for step in steps]
            for score in dict.fromkeys(score for _, score in columns)
            if all((of, score) in columns for of in sets[:2])
        }
        if lines:
            blocks.append(Curve(f"{sets[1]} against {sets[0]}", sets[0], sets[1], lines))
    note = f"alpha 0 is {first}, alpha 1 is {second}; the weights between are (1 - alpha)·first + alpha·second."
    return Section("Interpolation", note, blocks)


def _columns(scores: Mapping[str, Scores]) -> list[tuple[str, str]]:
    return [(of, score) for of, some in scores.items() for score in some]


def _title(of: str, score: str, scores: Mapping[str, Scores]) -> str:
    return score if len(scores) == 1 else f"{of}: {score}"
