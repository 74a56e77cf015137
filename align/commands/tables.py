"""Sections of an evaluation as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from align.commands.figures import (
    Lines,
    list_confusions,
    list_curve,
    list_histogram,
    list_scatter,
    write_cell,
    write_measured,
)

if TYPE_CHECKING:
    from align.page.section import (
        Bars,
        Block,
        Matrix,
        Section,
        Table,
    )

ROWS = 60  # of a table. The report has all.
COLUMNS = 6  # up to which an interval stands beside its value, and not below it


def print_tables(sections: Sequence[Section]) -> None:
    """Print a table for each block of each section, with an empty line between two."""
    from align.commands.shown import console

    out = console()
    for number, block in enumerate(lines(section.title, block) for section in sections for block in section.blocks):
        if number:
            out.print()
        if len(block.rows) > ROWS:
            block = block._replace(
                title=f"{block.title}: the first {ROWS} of {len(block.rows):,} rows", rows=block.rows[:ROWS]
            )
        out.print(block.title, style="italic", markup=False, highlight=False)
        out.print(_table(block))


def print_notes(notes: Sequence[str]) -> None:
    """Print a line for each fact that changes how the numbers are read, without control characters from shards."""
    from align.commands.shown import console, plain

    out = console()
    if notes:
        out.print()
    for note in notes:
        out.print(plain(note))


def lines(title: str, block: Block) -> Lines:
    """Return a block as text. title: that of its section."""
    from align.page.section import Bars, Confusions, Curve, Histogram, Matrix, Pictures, Scatter, Table

    title = title.lower()
    if isinstance(block, Bars):
        return _bars(title, block)
    if isinstance(block, Matrix):
        return _matrix(title, block)
    if isinstance(block, Curve):
        return list_curve(block)
    if isinstance(block, Confusions):
        return list_confusions(title, block)
    if isinstance(block, Histogram):
        return list_histogram(block)
    if isinstance(block, Scatter):
        return list_scatter(block)
    if isinstance(block, Table):
        return _plain_table(title, block)
    if isinstance(block, Pictures):
        return Lines(_join(title, block.title), ["picture in the report"], [[words] for _, words in block.pictures], 1)
    return Lines(
        _join(title, block.title), ["sample", ""], [[key, block.captions.get(key, "")] for key in block.keys], 2
    )


def _join(section: str, title: str) -> str:
    """Return the title of a block after that of its section."""
    if not title:
        return section
    first = title if title[1:2].isupper() else title[0].lower() + title[1:]  # "CKA of rows" stays
    return f"{section}: {first}"


def _plain_table(title: str, block: Table) -> Lines:
    """Return the rows. In a wide table the intervals have a line below their row."""
    from align.page.numbers import write_interval
    from align.page.section import Measured

    title = _join(title, block.title)
    if len(block.head) <= COLUMNS:
        return Lines(title, block.head, [[write_cell(cell) for cell in row] for row in block.rows], block.left)
    rows = []
    for row in block.rows:
        ends = [write_interval(cell.interval) if isinstance(cell, Measured) else "" for cell in row]
        rows.append([write_cell(cell.value if isinstance(cell, Measured) else cell) for cell in row])
        rows += [ends] if any(ends) else []
    return Lines(title, block.head, rows, block.left)


def _bars(title: str, block: Bars) -> Lines:
    head = [block.rows.lower(), block.columns.lower(), block.metric, *block.more, "chance"]
    rows = []
    for bar in block.bars:
        more = [(bar.more or {}).get(name) for name in block.more]
        first = write_measured(bar.value, bar.interval)
        rows.append([bar.row, bar.column, first, *map(write_cell, [*more, bar.chance])])
    return Lines(title, head, rows, 2)


def _matrix(title: str, block: Matrix) -> Lines:
    """Return the queries as rows and the answers as columns. A composed query comes after the others."""
    shown = block.shown or list(block.metrics)
    pairs = list(dict.fromkeys(pair for name in shown for pair in block.metrics.get(name, {})))
    answers = sorted({of for _, of in pairs})
    values = {
        pair: {name: block.metrics[name][pair] for name in shown if pair in block.metrics.get(name, {})}
        for pair in pairs
    }
    ends = {name: block.intervals.get(name, {}) if len(shown) == 1 else {} for name in shown}
    cells = {
        pair: " / ".join(write_measured(value, ends[name].get(pair)) for name, value in found.items())
        for pair, found in values.items()
    }
    queries = sorted({query for query, _ in pairs}, key=lambda query: (query.count("+"), query))
    title = f"{block.name}{title}: {' / '.join(shown)} by {block.rule}; rows ask, columns answer"
    return Lines(title, ["", *answers], [[q, *(cells.get((q, of), "") for of in answers)] for q in queries], 1)


def _table(block: Lines) -> Any:
    from rich.table import Table

    from align.commands.shown import plain

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(block.head):
        table.add_column(plain(name), justify="left" if i < block.left else "right")
    for row in block.rows:
        table.add_row(*map(plain, row))
    return table
