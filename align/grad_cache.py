"""Gradient caching: one exact step over a batch that does not fit into memory (Gao et al. 2021, arXiv 2101.06983)."""
