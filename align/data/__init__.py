"""Shards in, shards out, and the order in between."""

from align.data.bad import TooManyBad
from align.data.build import build
from align.data.collate import collate
from align.data.filter import filter_shards
from align.data.join import join
from align.data.loader import Loader
from align.data.merge import merge_shards
from align.data.mixture import Mixture
from align.data.recode import Recode
from align.data.resampled import Resampled
from align.data.shards import Shards
from align.data.sources import Concat
from align.data.split import split_shards
from align.data.writer import ShardWriter

__all__ = [
    "Concat",
    "Loader",
    "Mixture",
    "Recode",
    "Resampled",
    "ShardWriter",
    "Shards",
    "TooManyBad",
    "build",
    "collate",
    "filter_shards",
    "join",
    "merge_shards",
    "split_shards",
]
