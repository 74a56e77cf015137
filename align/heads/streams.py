"""Streams: several heads of one tower, each into a space of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.heads.inner import AnyHead, make_inner
from align.losses.kernels.blocks import check_spaces
from align.values import Features


@final
class Streams(nn.Module):
    """Several named heads on one encoder: the embedding is their k embeddings side by side, each a space.

    MeDSLIP (Fan et al. 2024, arXiv:2403.10635, section 3) has two streams of a picture, anatomy and pathology, which
    meet their own texts. Aspect-based embeddings have one head an aspect. Here a head gives D / k coordinates, of
    length 1 / root of k, so the whole is a unit vector, and the cosine of two embeddings is the mean of the cosines in
    the spaces. `align.losses.Spaces` trains one space, or joins two. ``align.model.spaces.in_space`` reads one.

    Heads such as AttentionPool pool the tokens with a query of each space: every space has its own global token.

    spaces: name -> head, or a callable of width and dim. All towers of a model name them in one order.

    Raises ValueError for a dim that the spaces do not divide, and for a head that chooses its number of tokens.
    """

    def __init__(self, width: int, dim: int, spaces: Mapping[str, AnyHead]):
        super().__init__()
        check_spaces([*spaces], dim)
        self.width, self.dim, self.names = width, dim, [*spaces]
        self.inside = nn.ModuleList([make_inner(head, width, dim // len(spaces)) for head in spaces.values()])
        if found := [name for name, head in self.spaces.items() if getattr(head, "resamples", False)]:
            raise ValueError(f"the head of {found[0]!r} chooses the number of its tokens, which all spaces share")

    @property
    def spaces(self) -> dict[str, nn.Module]:
        """Name -> head, as the constructor takes them."""
        return dict(zip(self.names, self.inside, strict=True))

    def forward(self, features: Features, tokens: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        if not tokens:
            return _join([head(features) for head in self.inside])
        pooled, each = zip(*(head(features, tokens=True) for head in self.inside), strict=True)
        return _join(pooled), _join(each)


def _join(blocks: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Return (..., D) of k blocks (..., D / k), each of length 1 / root of k. A zero stays zero."""
    wide = [x.float() if x.dtype in (torch.bfloat16, torch.float16) else x for x in blocks]
    return torch.cat([F.normalize(x, dim=-1, eps=1e-6) for x in wide], dim=-1) / len(wide) ** 0.5
