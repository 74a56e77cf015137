"""Blocks that only our own pages have, beside those of ``section``. Each is drawn by ``kit/blocks/KIND.html``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from align.page.cards import Group
from align.page.chart import Chart
from align.page.section import Block


class Lines(NamedTuple):
    """Sentences in a list."""

    lines: Sequence[str]


class Sentence(NamedTuple):
    """A sentence in a frame, in the place of a table that would be empty."""

    text: str


class Entries(NamedTuple):
    """Names with their values: text, numbers, lists, mappings, and lists of mappings, which become tables."""

    values: Mapping[str, Any]


class Counts(NamedTuple):
    """Counts by column and row, with the sum of each column. A count that is missing is 0."""

    row: str
    columns: Mapping[str, Mapping[str, int]]
    rows: Sequence[str]


class Values(NamedTuple):
    """Numbers by their names."""

    values: Mapping[str, float]


class Fold(NamedTuple):
    """Blocks behind a line that opens them."""

    line: str
    blocks: Sequence[AnyBlock]


class Queries(NamedTuple):
    """The gallery's controls and the place that its script fills. of, to: the modalities to choose from."""

    of: Sequence[str]
    to: Sequence[str]
    first: tuple[str, str]


class Coverage(NamedTuple):
    """The number of samples that have a row of each modality."""

    modalities: Mapping[str, int]
    samples: int


class Balance(NamedTuple):
    """For each attribute the counts of its classes, the most frequent first. most: classes that are drawn."""

    labels: Mapping[str, Mapping[str, int]]
    most: int = 24


class Reason(NamedTuple):
    """A row of a check's first table. anchor: the place of its examples. number: how many have it."""

    severity: str
    name: str
    anchor: str
    number: int
    meaning: str


class Reasons(NamedTuple):
    """A check's first table."""

    reasons: Sequence[Reason]


class Finding(NamedTuple):
    """A finding with examples. shown: number of its cards, width: columns of the page that it takes, 1 to 5."""

    reason: Reason
    cards: Group
    shown: int
    width: int


PageBlock = Lines | Sentence | Entries | Counts | Values | Fold | Queries | Coverage | Balance | Reasons | Finding
AnyBlock = Block | Chart | Group | PageBlock


class Chapter(NamedTuple):
    """A part of the page that its navigation names. about: one line below the title."""

    anchor: str
    title: str
    about: str
    blocks: Sequence[AnyBlock]
