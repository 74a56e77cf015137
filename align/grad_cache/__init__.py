"""Gradient caching: one exact step over a batch that does not fit into memory (Gao et al. 2021, arXiv 2101.06983)."""

from align.grad_cache.chunks import Chunks, check_chunk
from align.grad_cache.replay import in_chunks

__all__ = ["Chunks", "check_chunk", "in_chunks"]
