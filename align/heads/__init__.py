"""Heads: an encoder's features -> embeddings of the joint space. One head a file.

``head(features, tokens=False)`` gives (n, D), with ``tokens`` also (n, L, D). The first two parameters of a head are
``width, dim``. The model gives those, a config gives the rest.
"""

from align.heads.attention_pool import AttentionPool
from align.heads.identity import Identity
from align.heads.linear import Linear
from align.heads.mlp import MLP

__all__ = ["MLP", "AttentionPool", "Identity", "Linear"]
