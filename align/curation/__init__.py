"""Shards as output: built from tables, folders and programs, or split, merged and filtered from other shards."""

from align.curation.build import build
from align.curation.cut.filter import filter_shards
from align.curation.cut.merge import merge_shards
from align.curation.cut.split import split_shards
from align.curation.mine.mine import mine_shards
from align.media.recode import Recode

__all__ = ["Recode", "build", "filter_shards", "merge_shards", "mine_shards", "split_shards"]

FLOORS = (("jobs", "look"), ("members", "stats"), ("sources",), ("check", "cut"), ("from_source",), ("build", "mine"))
