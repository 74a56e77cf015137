"""Embeddings of a set as tables, and the fingerprint of the model that made them."""

from align.embedding.embed import Progress, concatenate, embed_shards, vectors
from align.embedding.fingerprint import fingerprint

__all__ = ["Progress", "concatenate", "embed_shards", "fingerprint", "vectors"]
