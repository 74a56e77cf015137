"""Embeddings of a set as tables, and the fingerprint of the model that made them."""

from align.checkpoint.fingerprint import fingerprint
from align.embedding.embed import Progress, concatenate, embed_shards, vectors

__all__ = ["Progress", "concatenate", "embed_shards", "fingerprint", "vectors"]
