"""Shards out: from tables, folders and programs, and from other shards cut, joined and filtered."""

from align.curation.build import build
from align.curation.cut.filter import filter_shards
from align.curation.cut.merge import merge_shards
from align.curation.cut.split import split_shards
from align.media.recode import Recode

__all__ = ["Recode", "build", "filter_shards", "merge_shards", "split_shards"]

FLOORS = (("jobs", "look"), ("members", "stats"), ("sources",), ("check", "cut"), ("build",))
