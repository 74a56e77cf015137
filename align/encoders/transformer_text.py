"""TransformerText: a small text transformer, trained from scratch."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.positions import fit_table, stretch_table
from align.encoders.transformer import Block, run_blocks
from align.values import Features


@final
class TransformerText(Encoder):
    """A text transformer: (n, L) token ids, 0 = padding, L <= context -> features with tokens (n, L, W) and their mask.

    Its pre-LN blocks look in both directions, its positions are learned (Vaswani et al. 2017, arXiv:1706.03762, section
    3). The defaults fit ``align.preprocess.Bytes``.

    vocabulary: ids go from 0 to vocabulary - 1.
    pool: "mean" over the real tokens, or "last", the last real token (the end mark).
    checkpointing: train with fewer activations in memory, as ``run_blocks`` says.
    keep: ``--start`` may give the weights of a shorter context. Their first ``keep`` positions stay, and the rest is
        stretched (``align.encoders.positions``). None refuses such weights.
    """

    def __init__(
        self,
        vocabulary: int = 259,
        context: int = 64,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        dropout: float = 0.0,
        pool: str = "mean",
        checkpointing: bool = False,
        keep: int | None = None,
    ):
        super().__init__()
        if pool not in ("mean", "last"):
            raise ValueError(f"pool is 'mean' or 'last', not {pool!r}")
        self.vocabulary, self.context, self.width = vocabulary, context, width
        self.depth, self.heads, self.dropout, self.pool = depth, heads, dropout, pool
        self.checkpointing, self.keep = checkpointing, keep
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)

    @torch.no_grad()
    def stretch(self, context: int, keep: int = 20) -> None:
        """Stretch the positions to a longer context, see ``align.encoders.positions.stretch_positions``."""
        table = stretch_table(self.position, context, keep)
        self.position = nn.Parameter(table, requires_grad=self.position.requires_grad)
        self.context = context

    def fit_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of an encoder with a shorter context as this one takes them."""
        return fit_table(weights, "position", self.position, self.keep)

    def encode(self, values: Tensor) -> Features:
        given = values.shape[1]
        if given > self.context:
            raise ValueError(f"TransformerText was made for {self.context} ids a row, got {tuple(values.shape)}")
        mask = values != 0
        mask[:, 0] = True  # a row of padding alone is read as its first token
        place = torch.arange(1, given + 1, device=values.device)
        last = (mask * place).amax(1)  # (n,) real length
        # Columns of padding in every row are left out, which changes nothing. A graph has no such number of its own.
        L = given if torch.compiler.is_compiling() else int(last.max())
        mask = mask[:, :L]
        x = self.token(values[:, :L]) + self.position[:L]  # (n, L, W)
        x = run_blocks(self.blocks, x, mask, self.checkpointing)
        x = self.norm(x) * mask[..., None]  # padding is zero, whatever stands beside it
        if self.pool == "mean":
            pooled = x.sum(1) / mask.sum(1, keepdim=True)  # (n, W)
        else:
            pooled = x.gather(1, (last - 1)[:, None, None].expand(-1, 1, self.width))[:, 0]
        rest = given - L
        return Features(pooled, F.pad(x, (0, 0, 0, rest)), F.pad(mask, (0, rest)))
