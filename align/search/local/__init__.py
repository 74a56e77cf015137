"""The index in a folder on disk."""

from align.search.local.change import Change
from align.search.local.create import is_index
from align.search.local.index import LocalIndex

__all__ = ["Change", "LocalIndex", "is_index"]

FLOORS = (
    ("filters", "segments", "tables"),
    ("ask", "create", "growing", "text"),
    ("corrections", "entries", "facets", "state"),
    ("change", "passing", "reader"),
    ("checks", "compaction", "version1", "writing"),
    ("index",),
)
