"""The writer of a feature cache."""

from align.embedding.features.hashes import preprocess_hash, tower_weights
from align.embedding.features.run import Written
from align.embedding.features.write import write_cache

__all__ = ["Written", "preprocess_hash", "tower_weights", "write_cache"]
