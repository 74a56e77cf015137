"""The three ways to a soup. Each gives the share of every model, facts for soup.json, and a section for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from align.page.section import Section
from align.soup.curve import measure_curve, pick_best
from align.soup.greedily import choose_greedily
from align.soup.measure import Measure
from align.soup.sections import curve_section, greedy_section, uniform_section


class Cooked(NamedTuple):
    """The outcome of a recipe. shares: of each model. facts: entries of soup.json, with ``how``."""

    shares: list[float]
    facts: dict[str, Any]
    section: Section


def average(names: Sequence[str], shares: list[float], measure: Measure | None, **facts: Any) -> Cooked:
    """Average with given shares. With a measure, each model and the soup are measured."""
    n = len(names)
    alone = [] if measure is None else [measure.scores([float(i == j) for j in range(n)]) for i in range(n)]
    together = {} if measure is None else measure.scores(shares)
    plain: dict[str, Any] = {"how": "uniform" if len({*shares}) == 1 else "weights", **facts}
    if measure is not None:
        plain |= {"scores": together, "alone": dict(zip(names, alone, strict=True))}
    return Cooked(shares, plain, uniform_section(names, shares, alone, together))


def cook_greedily(names: Sequence[str], measure: Measure) -> Cooked:
    """Take the models that do not lower the score (see ``choose_greedily``)."""
    shares, trials = choose_greedily(len(names), lambda shares: measure.value(measure.scores(shares)))
    rows = [trial._asdict() | {"model": names[trial.model]} for trial in trials]
    return Cooked(
        shares, {"how": "greedy", "by": measure.rule, "trials": rows}, greedy_section(names, trials, measure.rule)
    )


def interpolate(names: Sequence[str], alphas: Sequence[float], measure: Measure) -> Cooked:
    """Measure the curve between two models (see ``measure_curve``), and take the best point of it."""
    steps = measure_curve(alphas, measure.scores)
    best = pick_best(steps, measure.value).alpha
    curve = [{"alpha": step.alpha, "scores": step.scores} for step in steps]
    facts = {"how": "alpha", "alpha": best, "by": measure.rule, "curve": curve}
    return Cooked([1 - best, best], facts, curve_section(names[0], names[1], steps, best))
