"""A set's embeddings as tables, the fingerprint of the model that made them, and the writer of a cache."""

from align.checkpoint.fingerprint import fingerprint
from align.embedding.assemble import assemble
from align.embedding.embed import Progress, embed_batches, embed_shards
from align.embedding.features import write_cache
from align.embedding.tables import concatenate, first_rows, vectors

__all__ = [
    "Progress",
    "assemble",
    "concatenate",
    "embed_batches",
    "embed_shards",
    "fingerprint",
    "first_rows",
    "vectors",
    "write_cache",
]

FLOORS = (
    ("content", "sharing", "tables"),
    ("embed",),
    ("features",),
    ("assemble",),
)
"""Files of this room, the lowest first: tables and their parts, embeddings, the cache's writer, whole models."""
