"""PointNet: one MLP over every point, then the maximum over the points. It is small, and fast on a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from align.encoders.base import Encoder
from align.values import Features


@final
class PointNet(Encoder):
    """A PointNet: (n, P, channels) xyz, or xyz and rgb -> pooled features without tokens (Qi et al. 2017,
    arXiv:1612.00593, equation 1, without its alignment networks, and with layer in place of batch normalisation).

    A point is given by its coordinates, their sines and cosines at ``bands`` frequencies (Mildenhall et al. 2020, NeRF,
    arXiv:2003.08934, equation 4: without them small nets see shapes as blobs), and its other channels, taken to lie in
    [0, 1]. The order of the points does not matter, nor does a repeated one.

    hidden: widths of the MLP over each point. The maximum is taken over the last.
    """

    def __init__(self, width: int = 128, channels: int = 6, hidden: Sequence[int] = (32, 64, 128), bands: int = 2):
        super().__init__()
        if not hidden or channels < 3 or bands < 0:
            raise ValueError(f"needs hidden widths, channels >= 3, bands >= 0; got {hidden}, {channels}, {bands}")
        self.width, self.channels, self.hidden, self.bands = width, channels, hidden, bands
        sizes = [channels + 6 * bands, *hidden]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.GELU()]
        self.each = nn.Sequential(*layers[:-2])  # the last width goes to the maximum as it is
        last = hidden[-1]
        self.all = nn.Sequential(nn.LayerNorm(last), nn.Linear(last, 2 * last), nn.GELU(), nn.Linear(2 * last, width))

    def encode(self, values: Tensor) -> Features:
        if values.ndim != 3 or values.shape[2] != self.channels or not values.shape[1]:
            raise ValueError(f"PointNet takes (n, P, {self.channels}), P >= 1, got {tuple(values.shape)}")
        return Features(self.all(self._maximum(self._waves(values))))

    def at_points(self, values: Tensor, tokens: Tensor | None) -> Tensor:
        """Return each point's features: the pooled features of a cloud of this point alone."""
        return self.all(self.each(self._waves(values)))

    def _waves(self, values: Tensor) -> Tensor:
        """Return points with their waves: (n, P, channels) -> (n, P, channels + 6 bands)."""
        xyz, rest = values[..., :3], values[..., 3:]
        waves = [
            wave for k in range(self.bands) for wave in ((xyz * torch.pi * 2**k).sin(), (xyz * torch.pi * 2**k).cos())
        ]
        return torch.cat([xyz, (rest - 0.5) * 4, *waves], -1)

    def _maximum(self, values: Tensor) -> Tensor:
        """Return the maximum over points, (n, P, C) -> (n, hidden[-1]).

        Only the points that hold a maximum get a gradient, so only they are run with one. The gradient is the same, for
        half the time and a fraction of the memory. On a CPU the last layer is not run a second time.
        """
        critical = self.hidden[-1]
        if not torch.is_grad_enabled() or values.shape[1] <= critical:
            return self.each(values).amax(1)
        with torch.no_grad():
            top, holder = self.each(values).max(1)  # (n, hidden[-1]), and the point that each maximum belongs to
        points = values.gather(1, holder[..., None].expand(-1, -1, values.shape[2]))
        last = self.each[-1]
        known = values.device.type == "cpu" and type(last) is nn.Linear and not torch.is_autocast_enabled("cpu")
        if known and not torch.compiler.is_compiling():
            return _Maximum.apply(self.each[:-1](points), last.weight, last.bias, top)
        return self.each(points).diagonal(dim1=1, dim2=2)


class _Maximum(torch.autograd.Function):
    """Diagonal of a linear layer over the points that hold the maxima, (n, C, width) -> (n, C), which is known."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, weight: Tensor, bias: Tensor, top: Tensor) -> Tensor:
        ctx.save_for_backward(points, weight)
        return top

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        points, weight = ctx.saved_tensors
        slope = torch.diag_embed(grads[0]).flatten(0, 1)  # (n·C, C), as the whole layer has it: the sums are the same
        return grads[0][..., None] * weight, slope.T @ points.flatten(0, 1), slope.sum(0), None
