"""Search: samples of an index by a picture, a sound, points, words, or several at once."""

from align.search.item import Found, Hit, Item
from align.search.open import open_index
from align.search.parts import Part
from align.search.save import save_hits
from align.search.searcher import Searcher

__all__ = ["Found", "Hit", "Item", "Part", "Searcher", "open_index", "save_hits"]

FLOORS = (
    ("exact", "item", "linear", "shift"),
    ("leaves", "makers", "members", "parts"),
    ("save", "where"),
    ("conditions", "index", "matching"),
    ("hybrid", "local", "memory", "near", "rule", "threshold"),
    ("building", "corrected", "export", "hits"),
    ("correcting", "space"),
    ("searcher",),
    ("open",),
)
