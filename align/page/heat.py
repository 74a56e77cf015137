"""The heat maps that Matrix blocks become: query × answer for each metric and each rule of a hit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from align.page.section import Interval, Matrix

LEVELS = 20  # colours of the heat map, as page.css has them


class Cell(NamedTuple):
    """A value. level: its colour, 0 to LEVELS, or None. linked: the gallery shows answers of this pair."""

    answer: str
    value: float
    level: int | None
    linked: bool
    interval: Interval | None


class HeatRow(NamedTuple):
    """A query's row. cells: one for each column, None where nothing was measured. mean: of other modalities."""

    query: str
    cells: list[Cell | None]
    mean: float


class Panel(NamedTuple):
    """One heat map. means: of each column. mean: of all values. A modality that asks for itself is in no mean."""

    hit: str
    metric: str
    shown: bool
    columns: list[str]
    rows: list[HeatRow]
    means: list[float]
    mean: float
    has_intervals: bool


class Heat(NamedTuple):
    """All heat maps of one place, of which one is shown."""

    metrics: list[str]
    metric: str
    hits: dict[str, str]
    hit: str
    panels: list[Panel]


def by_number_of_parts(names: Iterable[str]) -> list[str]:
    """Return each name once, in alphabetic order, composed ones ("audio+image") last."""
    return sorted(set(names), key=lambda name: (name.count("+"), name))


def first_metric(metrics: Iterable[str]) -> str:
    """Return the metric to show first: recall@10, else the recall with the largest k, else the last one."""
    seen = list(dict.fromkeys(metrics))
    recalls = sorted((m for m in seen if re.fullmatch(r"recall@\d+", m, re.ASCII)), key=lambda m: int(m[7:]))
    return "recall@10" if "recall@10" in seen else (recalls or seen)[-1]


def arrange_heat(matrices: Sequence[Matrix], linked: set[tuple[str, str]]) -> Heat:
    """Return the heat maps of matrices that are drawn in one place. linked: pairs that the gallery shows.

    A metric without a value has no map.
    """
    filled = [(m, metric) for m in matrices for metric, cells in m.metrics.items() if cells]
    metrics = list(dict.fromkeys(metric for _, metric in filled))
    name = filled[0][0].name
    first = name, first_metric(metric for of, metric in filled if of.name == name)
    panels = [_panel(of, metric, linked, (of.name, metric) == first) for of, metric in filled]
    hits = {m.name: m.hit for m in matrices if any(m.metrics.values())}
    return Heat(metrics, first[1], hits, name, panels)


def _panel(matrix: Matrix, metric: str, linked: set[tuple[str, str]], shown: bool) -> Panel:
    cells, intervals = matrix.metrics[metric], matrix.intervals.get(metric, {})
    queries, answers = by_number_of_parts(of for of, _ in cells), by_number_of_parts(to for _, to in cells)
    is_share = all(0 <= v <= 1 for v in cells.values() if math.isfinite(v)) and "rank" not in metric.replace(
        "reciprocal_rank", ""
    )

    def cell(of: str, to: str) -> Cell | None:
        if (of, to) not in cells:
            return None
        value = cells[of, to]
        level = round(LEVELS * value) if is_share and math.isfinite(value) else None
        return Cell(to, value, level, (of, to) in linked, intervals.get((of, to)))

    rows = [
        HeatRow(of, [cell(of, to) for to in answers], _mean({pair: v for pair, v in cells.items() if pair[0] == of}))
        for of in queries
    ]
    means = [_mean({pair: v for pair, v in cells.items() if pair[1] == to}) for to in answers]
    return Panel(matrix.name, metric, shown, answers, rows, means, _mean(cells), bool(intervals))


def _mean(cells: Mapping[tuple[str, str], float]) -> float:
    """Return the mean of the values between two modalities, or of all where there is none."""
    values = [value for (query, of), value in cells.items() if query != of] or list(cells.values())
    return sum(values) / len(values)
