"""Series: a transformer over the time of sensors: inertial units, electrocardiograms, machines."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.encoders.transformer import Block, run_blocks
from align.values import Features


@final
class Series(Encoder):
    """A transformer over a series: (n, channels, T) -> the mean of its tokens, and the tokens (n, L, W), one for each
    ``patch`` steps of all channels (Nie et al. 2023, PatchTST, arXiv:2211.14730, section 3.1, with channels mixed).

    Any T >= 1: zeros fill the last patch, and the learned positions, made for ``length`` steps, are interpolated.
    Values are finite, and best of mean 0 and deviation 1, as ``align.preprocess.Signal`` gives them.

    stem: "patches" reads each patch by one matrix. "conv" reads it by convolutions of stride 2 with overlap, each with
        group normalisation (as wav2vec's, Schneider et al. 2019, arXiv:1904.05862, section 2.1): ``patch`` is then a
        power of two.
    checkpointing: train with fewer activations in memory, as ``run_blocks`` says.
    """

    def __init__(
        self,
        channels: int,
        length: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        patch: int = 16,
        stem: str = "patches",
        dropout: float = 0.0,
        checkpointing: bool = False,
    ):
        super().__init__()
        if min(channels, length, patch, depth) < 1:
            raise ValueError(
                f"channels, length, patch and depth are at least 1, not {channels}, {length}, {patch}, {depth}"
            )
        if stem not in ("patches", "conv"):
            raise ValueError(f"stem is 'patches' or 'conv', not {stem!r}")
        if stem == "conv" and patch & (patch - 1):
            raise ValueError(f"stem 'conv' halves the series again and again: patch is a power of two, not {patch}")
        self.channels, self.length, self.width, self.depth, self.heads = channels, length, width, depth, heads
        self.patch, self.stem, self.dropout, self.checkpointing = patch, stem, dropout, checkpointing
        self.read = _read_patches(channels, width, patch) if stem == "patches" else _convolve(channels, width, patch)
        self.position = nn.Parameter(torch.randn(-(-length // patch), width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[1] != self.channels or not values.shape[2]:
            raise ValueError(f"Series takes (n, {self.channels}, T), T >= 1, got {tuple(values.shape)}")
        x = self.read(F.pad(values, (0, -values.shape[2] % self.patch))).mT  # (n, L, W)
        x = run_blocks(self.blocks, x + self._positions(x.shape[1]), checkpointing=self.checkpointing)
        tokens = self.norm(x)
        return Features(tokens.mean(1), tokens)

    def _positions(self, L: int) -> Tensor:
        """Return (L, W), the learned positions or their linear interpolation."""
        if len(self.position) == L:
            return self.position
        return F.interpolate(self.position.T[None], L, mode="linear", align_corners=False)[0].T


def _read_patches(channels: int, width: int, patch: int) -> nn.Module:
    return nn.Conv1d(channels, width, patch, patch)


def _convolve(channels: int, width: int, patch: int) -> nn.Module:
    """Return convolutions that halve T until a step stands for a patch. Normalisation is over one row's time."""
    layers: list[nn.Module] = [nn.Conv1d(channels, width, 3, padding=1), nn.GroupNorm(1, width), nn.GELU()]
    for _ in range(patch.bit_length() - 1):
        layers += [nn.Conv1d(width, width, 3, 2, padding=1), nn.GroupNorm(1, width), nn.GELU()]
    return nn.Sequential(*layers)
