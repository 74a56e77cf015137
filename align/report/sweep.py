"""A sweep as a page: its trials, the best so far, their scores over the steps, and the keys that mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import align
from align.page.blocks import AnyBlock, Chapter
from align.page.chart import Chart, Series
from align.page.section import Table, Tile
from align.page.shell import Page, write_page

DRAWN = 20
"""Trials whose scores are drawn: the best ones."""


class Trial(NamedTuple):
    """A trial as the page has it. values: key -> its value as text. reached: (step, score)."""

    name: str
    state: str
    value: float | None
    step: int | None
    values: Mapping[str, str]
    reached: Sequence[tuple[int, float]]
    reason: str


def write_sweep(
    path: Path,
    trials: Sequence[Trial],
    *,
    score: str,
    mode: str,
    importances: Mapping[str, float],
    facts: Mapping[str, Any],
) -> Path:
    """Write the page of a sweep and return its path. trials: in the order of their start.

    score, mode: of the sweep. importances: key -> its share of the differences between trials, {} where it is unknown.
    """
    ranked = rank(trials, mode)
    chapters = [Chapter("trials", "Trials", f"Sorted by {score}, the best first.", [list_trials(ranked, score)])]
    charts: list[AnyBlock] = []
    best: list[tuple[float, float]] = []
    for number, trial in enumerate(trials):
        if trial.state == "done" and trial.value is not None:
            least = min if mode == "min" else max
            best.append((number, least(trial.value, best[-1][1]) if best else trial.value))
    if len(best) > 1:
        charts.append(Chart("Best so far", [Series(score, best, dots=True, strong=True)], x="trial"))
    lines = [Series(t.name, t.reached, dots=True, strong=t is ranked[0]) for t in ranked[:DRAWN] if t.reached]
    if lines:
        about = f"the best {DRAWN} trials" if len(ranked) > DRAWN else ""
        charts.append(Chart(f"{score} over the steps", lines, about))
    chapters.append(Chapter("curves", "Curves", "Move over a chart to read it.", charts))
    shares = sorted(importances.items(), key=lambda found: -found[1])
    rows = [[key, f"{share:.0%}"] for key, share in shares]
    note = "The share of the differences between trials that each key explains (PED-ANOVA, Watanabe et al. 2023)."
    chapters.append(Chapter("keys", "Keys", note, [Table(["key", "share"], rows)] if rows else []))
    value = ranked[0].value if ranked else None
    page = Page(
        title="Sweep",
        scripts=("legend.js", "chart.js", "scroll.js"),
        version=align.__version__,
        facts={name: str(value) for name, value in facts.items()},
        tiles=[] if value is None else [Tile(score, value, ranked[0].name)],
        chapters=[chapter for chapter in chapters if chapter.blocks],
    )
    return write_page(path, page)


def rank(trials: Sequence[Trial], mode: str) -> list[Trial]:
    """Return trials by score, the best first: those that ended, then those that were cut short, then failures."""
    states = {"done": 0, "pruned": 1, "stopped": 2}
    sign = 1 if mode == "min" else -1
    return sorted(trials, key=lambda t: (states.get(t.state, 3), t.value is None, sign * (t.value or 0.0)))


def list_trials(ranked: Sequence[Trial], score: str) -> Table:
    """Return trials as rows, with a column for each key whose value varies, and for each key of a single trial."""
    keys = list(dict.fromkeys(key for trial in ranked for key in trial.values))
    if len(ranked) > 1:
        keys = [key for key in keys if len({trial.values.get(key) for trial in ranked}) > 1]
    rows: list[list[str]] = []
    for trial in ranked:
        value = "–" if trial.value is None else f"{trial.value:.4f}"
        step = "–" if trial.step is None else str(trial.step)
        rows.append(
            [trial.name, *(trial.values.get(key, "") for key in keys), value, step, trial.reason or trial.state]
        )
    return Table(["trial", *keys, score, "at step", "end"], rows, left=1 + len(keys))
