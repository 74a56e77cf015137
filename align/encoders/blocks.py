"""Blocks: a long row through any encoder piece by piece, and a small transformer over the pieces."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.transformer import Block, run_blocks
from align.values import Features, Values

AGREED = ("size", "channels", "vocabulary", "lengths", "sample_rate", "n_mels", "front_end")
"""Attributes of the encoder inside that a preprocess of whole rows has to agree with too."""


@final
class Blocks(Encoder):
    """A row in ``blocks`` equal pieces, each read by one encoder, then a transformer over their vectors.

    An encoder of short rows so reads long texts and sounds, at a cost that grows with the length and not with its
    square: hierarchical attention (Yang et al. 2016, NAACL, section 2.2; Pappagari et al. 2019, arXiv:1910.10781,
    section 3.2). The tokens are the pieces, (n, blocks, W) with their mask, so late interaction, a pooling head or a
    dense read-out sees which piece of an item a query means. The pooled features are their mean.

    In a config, for a text of 80 ids of which the encoder reads 16 at a time:

        preprocess: {class_path: align.preprocess.Tokens, init_args: {context: 80}}
        encoder:
          class_path: align.encoders.Blocks
          init_args:
            blocks: 5
            encoder: {class_path: align.encoders.TransformerText, init_args: {vocabulary: 49408, context: 16}}

    Values are a tensor (n, ...), or a dict of them: ids and mask, or waves and ``lengths`` (n,). They are cut along
    ``axis``, with zeros at the end where the length is no multiple. A piece of zeros alone, of padding in the mask or
    past the length is not seen. The first one always is.

    Args:
        encoder: any encoder.
        blocks: pieces of a row, the same for every row.
        depth, heads: of the transformer. With depth 0 the row is the mean of its pieces.
        dropout: of the transformer.
        axis: the axis that is cut, -1 for ids, waves and the time of spectrograms.

    Raises ValueError for an encoder without ``width``, and for no blocks.
    """

    def __init__(
        self, encoder: nn.Module, blocks: int, depth: int = 1, heads: int = 4, dropout: float = 0.0, axis: int = -1
    ):
        super().__init__()
        width = getattr(encoder, "width", None)
        if not isinstance(width, int):
            raise ValueError(f"Blocks goes around an encoder, which has a width; {type(encoder).__name__} has none")
        if blocks < 1 or depth < 0:
            raise ValueError(f"blocks is at least 1 and depth at least 0, not {blocks} and {depth}")
        self.encoder, self.blocks, self.depth, self.heads = encoder, blocks, depth, heads
        self.dropout, self.axis, self.width = dropout, axis, width
        for name in AGREED:
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))
        if isinstance(context := getattr(encoder, "context", None), int):
            self.context = blocks * context
        for name in ("context_limit", "vocabulary_limit"):
            if isinstance(limit := getattr(encoder, name, None), int):
                setattr(self, name, limit * (blocks if name == "context_limit" else 1))
        self.origin = getattr(encoder, "origin", None)
        self.position = nn.Parameter(torch.zeros(blocks, width)) if depth else None
        self.layers = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width) if depth else nn.Identity()

    def encode(self, values: Values) -> Features:
        if isinstance(values, dict):
            pieces = {name: self._cut_lengths(x, values) if x.ndim == 1 else self._cut(x) for name, x in values.items()}
        else:
            pieces = self._cut(values)
        seen = self._find_seen(pieces)  # (n, blocks)
        if isinstance(pieces, dict) and "attention_mask" in pieces:  # an encoder reads one token of an empty piece
            mask = pieces["attention_mask"]
            pieces["attention_mask"] = torch.cat(
                [mask[..., :1].masked_fill((mask == 0).all(-1, keepdim=True), 1), mask[..., 1:]], -1
            )
        flat = {k: x.flatten(0, 1) for k, x in pieces.items()} if isinstance(pieces, dict) else pieces.flatten(0, 1)
        x = self.encoder(flat).pooled.unflatten(0, (-1, self.blocks))  # (n, blocks, W)
        if self.position is not None:
            x = self.norm(run_blocks(self.layers, x + self.position, seen))
        x = x * seen[..., None]
        return Features(x.sum(1) / seen.sum(1, keepdim=True), x, seen)

    def _cut(self, x: Tensor) -> Tensor:
        """Return (n, blocks, ...) pieces of values (n, ...)."""
        axis = self.axis % x.ndim
        short = -x.shape[axis] % self.blocks
        x = F.pad(x, (0, 0) * (x.ndim - 1 - axis) + (0, short)) if short else x
        return x.unflatten(axis, (self.blocks, -1)).movedim(axis, 1)

    def _cut_lengths(self, lengths: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Return (n, blocks), the real length of each piece. An encoder reads 1 step of an empty piece."""
        size = -(-next(x for x in values.values() if x.ndim > 1).shape[self.axis] // self.blocks)
        begins = size * torch.arange(self.blocks, device=lengths.device)
        return (lengths[:, None] - begins).clamp(1, size)

    def _find_seen(self, pieces: Tensor | dict[str, Tensor]) -> Tensor:
        """Return (n, blocks) bool, the pieces that hold more than padding, and the first."""
        told = pieces
        if isinstance(pieces, dict):
            told = pieces.get("attention_mask", pieces.get("mask", next(x for x in pieces.values() if x.ndim > 2)))
        assert isinstance(told, Tensor)
        seen = (told.flatten(2) != 0).any(2)
        return torch.cat([torch.ones_like(seen[:, :1]), seen[:, 1:]], 1)
