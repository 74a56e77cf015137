"""Sections of a page as data: an evaluator states them, the report and the terminal each draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, final

Interval = tuple[float, float]
"""The lowest and the highest value of a confidence interval."""


class Measured(NamedTuple):
    """A number with its interval, as a cell of a table."""

    value: float
    interval: Interval | None = None


@final
@dataclass(frozen=True)
class Table:
    """Plain rows under a head. A cell is a text, a number, or a number with its interval.

    The first `left` columns are aligned to the left. title: words that tell it from other tables of its section.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | float | Measured]]
    left: int = 1
    title: str = ""


@final
@dataclass(frozen=True)
class Bar:
    """One value in [0, 1] of a row and a column, the value of chance, and further values by name ("accuracy@5")."""

    row: str
    column: str
    value: float
    chance: float | None = None
    more: Mapping[str, float] | None = None
    interval: Interval | None = None


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
    intervals: Mapping[str, Mapping[tuple[str, str], Interval]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Curve:
    """Lines over a common axis: name -> (x, y) points. bands: name -> (x, lowest y, highest y), around its line."""

    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    bands: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Confusions:
    """Counts of answers by class: rows are the right classes, columns the answers. counts: (C, C).

    Raises ValueError where the counts are not as many as the names, by row and by column.
    """

    title: str
    names: Sequence[str]
    counts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.names) for row in (self.counts, *self.counts)):
            widths = sorted({len(row) for row in self.counts})
            raise ValueError(
                f"Confusions {self.title!r} has {len(self.names)} names and {len(self.counts)} rows of {widths} "
                "counts; C names need C rows of C counts"
            )


@final
@dataclass(frozen=True)
class Histogram:
    """Shares of each group's values by bin. edges: of the k bins, k + 1. shares: group -> k numbers that sum to 1.

    A group without values may have no shares. Raises ValueError where a group has another number of shares than bins.
    """

    title: str
    x: str
    edges: Sequence[float]
    shares: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        for name, found in self.shares.items():
            if len(found) not in (0, len(self.edges) - 1):
                raise ValueError(
                    f"Histogram {self.title!r} has {len(self.edges)} edges, and {len(found)} shares of {name!r}; "
                    "k bins need k + 1 edges and k shares"
                )


@final
@dataclass(frozen=True)
class Scatter:
    """Points in a plane, by group: a map of the space. about: a few words, such as the variance that it keeps."""

    title: str
    groups: Mapping[str, Sequence[tuple[float, float]]]
    about: str = ""


@final
@dataclass(frozen=True)
class Gallery:
    """Samples to see, hear and turn, by key. captions: key -> a few words. title: a few words above them."""

    keys: Sequence[str]
    captions: Mapping[str, str]
    title: str = ""


@final
@dataclass(frozen=True)
class Pictures:
    """Pictures as PNG, each with a few words, side by side. title: a few words above them."""

    pictures: Sequence[tuple[bytes, str]]
    title: str = ""


Block = Table | Bars | Matrix | Curve | Confusions | Histogram | Scatter | Gallery | Pictures


@final
@dataclass(frozen=True)
class Tile:
    """A headline number: the value, its name, and a line or two about it."""

    name: str
    value: float
    about: str = ""
    note: str = ""
    interval: Interval | None = None


@final
@dataclass(frozen=True)
class Section:
    """One evaluator's part of a page.

    Blocks of one kind that follow one another are drawn together: Matrix, Bars and Confusions in one place, where the
    reader chooses one of them, and Curves, Histograms and Scatters side by side.

    title: its heading, which also names its anchor. note: one line below it. tiles: its headline numbers. details: more
    blocks, which a page has behind a line that opens them, and a terminal leaves out.
    """

    title: str
    note: str
    blocks: Sequence[Block]
    tiles: Sequence[Tile] = ()
    details: Sequence[Block] = ()
