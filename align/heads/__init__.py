"""Heads: an encoder's features -> embeddings of the joint space. One head a file.

``head(features, tokens=False)`` gives (n, D), with ``tokens`` also (n, L, D). The first two parameters of a head are
``width, dim``. The model gives those, a config gives the rest. A head with ``resamples = True`` chooses the number of
its tokens itself, and none of them is padding.
"""

from align.heads.attention_pool import AttentionPool
from align.heads.average import Average
from align.heads.binary import Binary
from align.heads.centered import Centered
from align.heads.chain import Chain
from align.heads.codebook import Codebook
from align.heads.concepts import Concepts
from align.heads.experts import Experts
from align.heads.fuse import Fuse
from align.heads.identity import Identity
from align.heads.lexical import Lexical
from align.heads.linear import Linear
from align.heads.mlp import MLP
from align.heads.orthogonal import Orthogonal
from align.heads.padded import Padded
from align.heads.resampler import Resampler
from align.heads.residual import Residual
from align.heads.router import Router
from align.heads.streams import Streams

__all__ = [
    "MLP",
    "AttentionPool",
    "Average",
    "Binary",
    "Centered",
    "Chain",
    "Codebook",
    "Concepts",
    "Experts",
    "Fuse",
    "Identity",
    "Lexical",
    "Linear",
    "Orthogonal",
    "Padded",
    "Resampler",
    "Residual",
    "Router",
    "Streams",
]
