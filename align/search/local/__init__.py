"""The index in a folder on disk."""

from align.search.local.change import Change
from align.search.local.index import LocalIndex

__all__ = ["Change", "LocalIndex"]
