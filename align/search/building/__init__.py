"""The making of an index: from shards or a folder of files, resumable, and put in its place by one change."""

from align.search.building.build import add_to_index, build_index
from align.search.building.report import Report, Work
from align.search.building.stock import Options

__all__ = ["Options", "Report", "Work", "add_to_index", "build_index"]

FLOORS = (
    ("entry", "folder", "maker", "place", "roots"),
    ("chosen", "files", "staging"),
    ("stock",),
    ("changes", "embed"),
    ("fill",),
    ("report",),
    ("update",),
    ("build",),
)
