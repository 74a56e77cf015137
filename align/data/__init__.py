"""Shards in, shards out, and the order in between."""

from align.data.archive.writer import ShardWriter
from align.data.bad import TooManyBad
from align.data.collate import collate
from align.data.columns.columns import Columns
from align.data.columns.opening import open_cache
from align.data.join import join
from align.data.loader import Loader
from align.data.mixing.mixture import Mixture
from align.data.mixing.sources import Concat
from align.data.pipeline import Pipeline
from align.data.resampled import Resampled
from align.data.shards import Shards

FLOORS = (
    ("bad", "endings", "grades", "labels", "names", "order", "order_file", "restarting"),
    ("captions", "decoded", "join", "ledger", "packing"),
    ("parts",),
    ("meta", "rows"),
    ("archive",),
    ("places",),
    ("as_webdataset", "reading"),
    ("pipeline", "shards"),
    ("resampled",),
    ("columns",),
    ("mixing",),
    ("opening",),
    ("wholes",),
    ("collate", "kept", "views"),
    ("arguments", "pieces"),
    ("workers",),
    ("loader",),
)
"""Files and rooms of this folder, the lowest first: each imports lower floors only."""

__all__ = [
    "Columns",
    "Concat",
    "Loader",
    "Mixture",
    "Pipeline",
    "Resampled",
    "ShardWriter",
    "Shards",
    "TooManyBad",
    "collate",
    "join",
    "open_cache",
]
