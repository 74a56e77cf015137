"""Sections of a page as data: an evaluator states them, the report and the terminal each draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Table:
    """Plain rows under a head. A cell is a text or a number. The first `left` columns are aligned to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    left: int = 1


@final
@dataclass(frozen=True)
class Bar:
    """One value in [0, 1] of a row and a column, the value of chance, and further values by name ("accuracy@5")."""

    row: str
    column: str
    value: float
    chance: float | None = None
    more: Mapping[str, float] | None = None


@final
@dataclass(frozen=True)
class Bars:
    """Values by row (an attribute) and column (a modality), each with a bar and a mark at chance.

    rows: the word for a row ("Attribute"). metric: the name of the values ("accuracy"). notes: row -> a few words.
    columns: the word for a column. more: names of further values ("accuracy@5") that a terminal shows beside the first.
    """

    rows: str
    metric: str
    bars: Sequence[Bar]
    notes: Mapping[str, str]
    columns: str = "Modality"
    more: Sequence[str] = ()


@final
@dataclass(frozen=True)
class Matrix:
    """Values by query and answer, for each metric. Rows ask, columns answer. A composed query is "audio+image".

    name: the prefix of its scores ("", "class/shape/"). hit: a hit in few words ("same object"). rule: the rule of a
    hit ("sample", "shared class"). metrics: metric -> (query, answer) -> value, in the order in which they are offered.
    shown: the metrics that stand in a cell on a terminal, all of them by default.
    """

    name: str
    hit: str
    rule: str
    metrics: Mapping[str, Mapping[tuple[str, str], float]]
    shown: Sequence[str] = ()


@final
@dataclass(frozen=True)
class Curve:
    """Lines over a common axis: name -> (x, y) points."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


@final
@dataclass(frozen=True)
class Gallery:
    """Samples to see, hear and turn, by key. captions: key -> a few words."""

    keys: Sequence[str]
    captions: Mapping[str, str]


Block = Table | Bars | Matrix | Curve | Gallery


@final
@dataclass(frozen=True)
class Tile:
    """A headline number: the value, its name, and a line or two about it."""

    name: str
    value: float
    about: str = ""
    note: str = ""


@final
@dataclass(frozen=True)
class Section:
    """One evaluator's part of a page.

    Blocks of one kind that follow one another are drawn together: Matrix and Bars in one place, where the reader
    chooses one of them, and Curves side by side.

    title: its heading, which also names its anchor. note: one line below it. tiles: its headline numbers.
    """

    title: str
    note: str
    blocks: Sequence[Block]
    tiles: Sequence[Tile] = ()
