"""HTSAT: the audio transformer of LAION's CLAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn
from torch.nn.functional import interpolate

from align.encoders.base import Encoder
from align.encoders.htsat.patches import FusedPatches, Patches
from align.encoders.htsat.stages import Stage
from align.values import Features


@final
class HTSAT(Encoder):
    """A Swin transformer of spectrograms: (n, 1, n_mels, T) -> features (Chen et al. 2022, arXiv:2202.00874).

    Bands are normalised (batch normalisation, whose statistics stay). The time is stretched to size² / n_mels frames
    by bicubic interpolation and cut into size / n_mels stretches, which lie one below the other in a square picture.
    Any T up to that is read.

    With ``fusion`` values are (n, 4, n_mels, T): the whole recording made short, and three parts of it. A row whose
    parts are zero throughout is a recording of one window. Only its whole is read, as CLAP does.

    Tokens (n, L, W) are the cells of the last map in order of time, with the bands of a time side by side. With a
    projection there are none.

    Args:
        patch_width: C of the first stage. Each stage doubles it.
        depths: blocks of each stage.
        heads: of the attention of each stage.
        n_mels: bands.
        size: side of the picture.
        patch: side of a patch.
        window: side of an attention window, in patches.
        fusion: read three parts of a long recording beside its whole.
        projection: width of CLAP's two layers after the mean, None for the mean itself.
        preprocess: arguments of Audio that differ from the preset.
        checkpointing: compute activations again in the backward pass, for less memory.

    Raises ValueError for sizes that do not divide each other, and for values of another shape.
    """

    lengths = False  # takes a tensor alone

    def __init__(
        self,
        patch_width: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (4, 8, 16, 32),
        n_mels: int = 64,
        size: int = 256,
        patch: int = 4,
        window: int = 8,
        fusion: bool = False,
        projection: int | None = None,
        preprocess: dict[str, Any] | None = None,
        checkpointing: bool = False,
    ):
        super().__init__()
        self.patch_width, self.depths, self.heads = patch_width, list(depths), list(heads)
        self.n_mels, self.size, self.patch, self.window = n_mels, size, patch, window
        self.fusion, self.projection, self.checkpointing = fusion, projection, checkpointing
        self.preprocess = preprocess or {}
        self._check()
        self.bands = nn.BatchNorm2d(n_mels)
        self.patches = (FusedPatches if fusion else Patches)(patch, patch_width)
        self.stages = nn.ModuleList()
        for i, (depth, count) in enumerate(zip(self.depths, self.heads, strict=True)):
            side, merge = size // patch >> i, i + 1 < len(self.depths)
            self.stages.append(Stage(patch_width << i, count, depth, side, window, merge, checkpointing))
        width = patch_width << (len(self.depths) - 1)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Identity() if projection is None else project(width, projection)
        self.width = projection or width
        self.train(self.training)

    def _check(self) -> None:
        if len(self.depths) != len(self.heads):
            raise ValueError(f"depths {self.depths} and heads {self.heads} must be as many")
        if self.size % self.n_mels or self.size % self.patch or self.n_mels % self.patch:
            raise ValueError(f"size={self.size} must be a multiple of n_mels={self.n_mels}, both of patch={self.patch}")
        for i, count in enumerate(self.heads):
            side = self.size // self.patch >> i
            if side << i != self.size // self.patch or (side > self.window and side % self.window):
                raise ValueError(f"a map of {self.size // self.patch} / {2**i} has no whole windows of {self.window}")
            if (self.patch_width << i) % count:
                raise ValueError(f"heads {self.heads} must divide the widths, {self.patch_width << i} at stage {i}")

    def wants(self) -> dict[str, Any]:
        """Return CLAP's preset of Audio, with the arguments that differ."""
        preset = "laion-clap-fusion" if self.fusion else "laion-clap"
        sizes = {} if self.n_mels == 64 else {"n_mels": self.n_mels}
        return {"class_path": "align.preprocess.Audio", "init_args": {"preset": preset, **sizes, **self.preprocess}}

    def encode(self, values: Tensor) -> Features:
        self._check_values(values)
        normal = self.bands(values.transpose(1, 2)).transpose(1, 2)
        picture = fold(normal, self.size)
        if self.fusion:
            long = (values[:, 1:] != 0).flatten(1).any(1)  # (n,)
            x = self.patches(picture, long)
        else:
            x = self.patches(picture)  # (n, h, w, C)
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x)
        pooled = self.project(x.mean((1, 2)))
        return Features(pooled, self._tokens(x) if self.projection is None else None)

    def _check_values(self, values: Tensor) -> None:
        channels, most = 4 if self.fusion else 1, self.size**2 // self.n_mels
        if values.shape[1:3] != (channels, self.n_mels) or values.shape[3] > most:
            given = ", ".join(str(x) for x in values.shape[1:])
            wanted = f"(n, {channels}, {self.n_mels}, up to {most})"
            raise ValueError(f"HTSAT with fusion={self.fusion} takes {wanted}, not (n, {given})")

    def _tokens(self, x: Tensor) -> Tensor:
        """Return (n, L, W) of the last map, whose rows are stretches of time, and bands in each."""
        stretches = x.unflatten(1, (self.size // self.n_mels, -1))  # (n, stretches, bands, T, W)
        return stretches.transpose(2, 3).flatten(1, 3)


def fold(x: Tensor, size: int) -> Tensor:
    """Return square pictures (n, C, size, size) of (n, C, n_mels, T): stretches of time, one below the other."""
    count = size // x.shape[2]
    if x.shape[3] < count * size:
        x = interpolate(x, (x.shape[2], count * size), mode="bicubic", align_corners=True)
    return x.unflatten(3, (count, size)).transpose(2, 3).flatten(2, 3)


def project(width: int, dim: int) -> nn.Sequential:
    """Return CLAP's projection."""
    return nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, dim))
