"""Search: samples of an index by a picture, a sound, points, words, or several at once."""

from align.search.approximate import Approximate
from align.search.engine import Engined
from align.search.explain import explain
from align.search.hamming import Hamming
from align.search.inverted import Inverted
from align.search.item import Found, Hit, Item
from align.search.open import open_index
from align.search.parts import Part
from align.search.save import save_hits
from align.search.searcher import Searcher

__all__ = [
    "Approximate",
    "Engined",
    "Found",
    "Hamming",
    "Hit",
    "Inverted",
    "Item",
    "Part",
    "Searcher",
    "explain",
    "open_index",
    "save_hits",
]

FLOORS = (
    ("exact", "finder", "hamming", "item", "linear", "shift"),
    ("inverted", "leaves", "makers", "members", "parts", "remote"),
    ("save", "where"),
    ("conditions", "index", "matching"),
    ("front", "hybrid", "local", "memory", "near", "rule", "threshold"),
    ("building", "corrected", "export", "hits", "made"),
    ("approximate",),
    ("ann", "correcting", "engine", "space"),
    ("searcher",),
    ("explain", "open"),
)
