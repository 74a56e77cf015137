"""Identity: features that are embeddings already, for a frozen teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from align.heads.tokens import read_tokens
from align.values import Features


@final
class Identity(nn.Module):
    """The features themselves, where they live in the joint space already, as a frozen teacher's do.

    Raises ValueError where ``width``, the teacher's, is not ``dim``, the model's.
    """

    def __init__(self, width: int, dim: int):
        super().__init__()
        if width != dim:
            raise ValueError(f"Identity leaves features as they are, so width and dim are equal; got {width} and {dim}")
        self.width, self.dim = width, dim

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        return (features.pooled, read_tokens(features)) if tokens else features.pooled
