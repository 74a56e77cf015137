"""Sections of an evaluation as tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from align.page.section import Bars, Block, Curve, Matrix, Section


class Lines(NamedTuple):
    """A block as text. left: columns that are aligned to the left."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int


def print_tables(sections: Sequence[Section]) -> None:
    """Print a table for each block of each section, with an empty line between two."""
    from align.commands.shown import console

    out = console()
    for number, block in enumerate(lines(section.title, block) for section in sections for block in section.blocks):
        if number:
            out.print()
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
    from align.page.section import Bars, Curve, Matrix, Table

    title = title.lower()
    if isinstance(block, Bars):
        return _bars(title, block)
    if isinstance(block, Matrix):
        return _matrix(title, block)
    if isinstance(block, Curve):
        return _curve(block)
    if isinstance(block, Table):
        return Lines(title, block.head, [[_text(cell) for cell in row] for row in block.rows], block.left)
    return Lines(title, ["sample", ""], [[key, block.captions.get(key, "")] for key in block.keys], 2)


def _bars(title: str, block: Bars) -> Lines:
    head = [block.rows.lower(), block.columns.lower(), block.metric, *block.more, "chance"]
    rows = []
    for bar in block.bars:
        values = [bar.value, *((bar.more or {}).get(name) for name in block.more), bar.chance]
        rows.append([bar.row, bar.column, *map(_text, values)])
    return Lines(title, head, rows, 2)


def _matrix(title: str, block: Matrix) -> Lines:
    """Return the queries as rows and the answers as columns. A composed query comes after the others."""
    shown = block.shown or list(block.metrics)
    pairs = list(dict.fromkeys(pair for name in shown for pair in block.metrics.get(name, {})))
    answers = sorted({of for _, of in pairs})
    cells = {
        pair: " / ".join(_text(block.metrics[name][pair]) for name in shown if pair in block.metrics.get(name, {}))
        for pair in pairs
    }
    queries = sorted({query for query, _ in pairs}, key=lambda query: (query.count("+"), query))
    title = f"{block.name}{title}: {' / '.join(shown)} by {block.rule}; rows ask, columns answer"
    return Lines(title, ["", *answers], [[q, *(cells.get((q, of), "") for of in answers)] for q in queries], 1)


def _curve(block: Curve) -> Lines:
    """Return a row for each x, with the y of each line there."""
    lines = {name: dict(points) for name, points in block.lines.items()}
    places = sorted({x for points in lines.values() for x in points})
    rows = [[f"{x:g}", *(_text(points.get(x)) for points in lines.values())] for x in places]
    return Lines(f"{block.title}: {block.y}", [block.x, *lines], rows, 0)


def _text(value: Any) -> str:
    value = value.value if hasattr(value, "interval") else value  # a number with its interval
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _table(block: Lines) -> Any:
    from rich.table import Table

    from align.commands.shown import plain

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(block.head):
        table.add_column(plain(name), justify="left" if i < block.left else "right")
    for row in block.rows:
        table.add_row(*map(plain, row))
    return table
