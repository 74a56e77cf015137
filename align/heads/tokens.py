"""Tokens of features, for heads that project them."""

from __future__ import annotations

from torch import Tensor

from align.values import Features


def read_tokens(features: Features) -> Tensor:
    """Return the tokens (n, L, W). Raises ValueError where the encoder gave none."""
    if features.tokens is None:
        raise ValueError("tokens were asked for, but the encoder gives pooled features only")
    return features.tokens
