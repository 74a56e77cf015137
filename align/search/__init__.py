"""Search: embed a shard set once, keep it as a folder, and ask it in any modality."""

from align.search.compose import compose
from align.search.index import Index
from align.search.query import Hit, nearest
from align.search.save import save_hits
from align.search.write import write_index

__all__ = ["Hit", "Index", "compose", "nearest", "save_hits", "write_index"]
