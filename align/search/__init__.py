"""Search: samples of an index by a picture, a sound, points, words, or several at once."""

from align.search.compose import compose
from align.search.query import Hit, find_best
from align.search.save import save_hits
from align.search.version1 import Index
from align.search.write import write_index

__all__ = ["Hit", "Index", "compose", "find_best", "save_hits", "write_index"]
