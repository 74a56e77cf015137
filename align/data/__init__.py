"""Shards in, shards out, and the order in between."""

from align.data.bad import TooManyBad
from align.data.build import build
from align.data.collate import collate
from align.data.join import join
from align.data.loader import Loader
from align.data.mixture import Mixture
from align.data.resampled import Resampled
from align.data.shards import Shards
from align.data.sources import Concat
from align.data.writer import ShardWriter

__all__ = [
    "Concat",
    "Loader",
    "Mixture",
    "Resampled",
    "ShardWriter",
    "Shards",
    "TooManyBad",
    "build",
    "collate",
    "join",
]
