"""Search: samples of an index by a picture, a sound, points, words, or several at once."""

from align.search.compose import compose
from align.search.item import Found, Hit, Item
from align.search.open import open_index
from align.search.parts import Part
from align.search.query import find_best
from align.search.save import save_hits
from align.search.searcher import Searcher
from align.search.version1 import Index
from align.search.write import write_index

__all__ = [
    "Found",
    "Hit",
    "Index",
    "Item",
    "Part",
    "Searcher",
    "compose",
    "find_best",
    "open_index",
    "save_hits",
    "write_index",
]

FLOORS = (
    ("exact", "item", "linear", "parts"),
    ("compose", "leaves", "query"),
    ("where",),
    ("index", "save", "version1"),
    ("hybrid", "local", "memory", "near", "rule", "threshold", "write"),
    ("building", "export", "searcher"),
    ("open",),
)
