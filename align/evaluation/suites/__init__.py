"""Suites: public sets of data with the protocol that each is measured by, and the numbers that others have published.

A set is data: ``data/SUITE.json`` states its folder, shards, classes, templates, hit rule and published numbers, each
with its source.
"""

from align.evaluation.suites.finding import Found, find_set
from align.evaluation.suites.measuring import Measured, measure
from align.evaluation.suites.rows import Row, read_rows, write_rows
from align.evaluation.suites.sections import build_sections
from align.evaluation.suites.sets import SUITES, EvalSet, choose_sets, read_sets

__all__ = [
    "SUITES",
    "EvalSet",
    "Found",
    "Measured",
    "Row",
    "build_sections",
    "choose_sets",
    "find_set",
    "measure",
    "read_rows",
    "read_sets",
    "write_rows",
]

FLOORS = (
    ("sets", "words"),
    ("finding", "rows"),
    ("measuring", "sections"),
)
