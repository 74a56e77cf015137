"""Confusions blocks as they are drawn: a heat of shares by row, and a list of the most frequent confusions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from align.page.heat import LEVELS
from align.page.section import Confusions

MOST = 60  # classes of one heat
WRITTEN = 16  # classes up to which a cell has room for a number
LISTED = 10  # confusions of the list


class Cell(NamedTuple):
    """Samples of a class that got an answer. level: colour, 1 to LEVELS, or 0 of none. text: percent of the row."""

    answer: str
    samples: int
    level: int
    text: str
    is_right: bool


class Row(NamedTuple):
    """A class with the answers that its samples got. total: all its samples, also those of answers without a cell."""

    name: str
    total: int
    cells: list[Cell]


class Mistake(NamedTuple):
    """Samples of a class that were taken for another. share: of the samples of the class."""

    name: str
    answer: str
    samples: int
    share: float


class Panel(NamedTuple):
    """One heat, and its most frequent mistakes of all `pairs` of a class and a wrong answer.

    about: the classes that it shows, "" for all. size: of its cells ("large", "middle", "small").
    """

    title: str
    about: str
    size: str
    names: list[str]
    rows: list[Row]
    mistakes: list[Mistake]
    pairs: int


def arrange_confusions(blocks: Iterable[Confusions]) -> list[Panel]:
    """Return a heat for each block that has a count."""
    return [_panel(block) for block in blocks if any(map(any, block.counts))]


def list_mistakes(block: Confusions) -> list[Mistake]:
    """Return all pairs of a class and a wrong answer, the most frequent first, then those of the largest share."""
    found = [
        Mistake(block.names[i], block.names[j], count, count / total)
        for i, (row, total) in enumerate(zip(block.counts, map(sum, block.counts), strict=True))
        for j, count in enumerate(row)
        if count and i != j
    ]
    return sorted(found, key=lambda mistake: (-mistake.samples, -mistake.share))


def _panel(block: Confusions) -> Panel:
    shown = _most_confused(block.counts)
    rows = [_row(block, i, shown) for i in shown]
    mistakes = list_mistakes(block)
    about = f"{len(shown)} of {len(block.names)} classes: those in the most confusions"
    size = "large" if len(shown) <= WRITTEN else "middle" if len(shown) <= 2 * WRITTEN else "small"
    names = [block.names[i] for i in shown]
    about = about if len(shown) < len(block.names) else ""
    return Panel(block.title, about, size, names, rows, mistakes[:LISTED], len(mistakes))


def _most_confused(counts: Sequence[Sequence[int]]) -> list[int]:
    """Return the classes that a heat has room for, in their order: those with the most wrong answers, given or got."""
    if len(counts) <= MOST:
        return list(range(len(counts)))
    answers = [sum(column) for column in zip(*counts, strict=True)]
    wrong = [sum(row) + answers[i] - 2 * row[i] for i, row in enumerate(counts)]
    return sorted(sorted(range(len(counts)), key=lambda i: -wrong[i])[:MOST])


def _row(block: Confusions, i: int, shown: Sequence[int]) -> Row:
    counts, total = block.counts[i], sum(block.counts[i])
    cells = []
    for j in shown:
        share = counts[j] / total if total else 0.0
        level = max(1, round(LEVELS * math.sqrt(share))) if counts[j] else 0
        text = "" if not counts[j] or len(shown) > WRITTEN else f"{100 * share:.0f}" if share >= 0.005 else "<1"
        cells.append(Cell(block.names[j], counts[j], level, text, i == j))
    return Row(block.names[i], total, cells)
