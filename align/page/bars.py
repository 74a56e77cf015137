"""The table that Bars become: a row for each attribute, a column for each modality, and the range of chance."""

from __future__ import annotations

from typing import NamedTuple

from align.page.heat import by_number_of_parts
from align.page.section import Bar, Bars


class BarRow(NamedTuple):
    """One row. cells: a bar or None for each column. chance: nothing, one value, or the lowest and the highest."""

    name: str
    note: str
    cells: list[Bar | None]
    chance: list[float]


class Grid(NamedTuple):
    """A table of bars."""

    columns: list[str]
    rows: list[BarRow]


def arrange_bars(bars: Bars) -> Grid:
    """Return the bars by row, in the order in which they come, and by column."""
    columns = by_number_of_parts(bar.column for bar in bars.bars)
    rows = []
    for name in dict.fromkeys(bar.row for bar in bars.bars):
        found = {bar.column: bar for bar in bars.bars if bar.row == name}
        chances = [bar.chance for bar in found.values() if bar.chance is not None]
        ends = [min(chances), max(chances)] if chances else []
        if ends and f"{ends[0]:.3f}" == f"{ends[1]:.3f}":
            del ends[1]
        rows.append(BarRow(name, bars.notes.get(name, ""), [found.get(column) for column in columns], ends))
    return Grid(columns, rows)
