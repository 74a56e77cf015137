"""A set's embeddings as tables, and the fingerprint of the model that made them."""

from align.checkpoint.fingerprint import fingerprint
from align.embedding.embed import Progress, embed_batches, embed_shards
from align.embedding.tables import concatenate, first_rows, vectors

__all__ = ["Progress", "concatenate", "embed_batches", "embed_shards", "fingerprint", "first_rows", "vectors"]
