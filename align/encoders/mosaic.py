"""Mosaic: pictures of a batch in one, each tile a region of its caption, without a box in the data."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.encoders.follower import Follower, Lead
from align.encoders.regions import pool_boxes
from align.values import Features, Rows


@final
class Mosaic(Follower):
    """Mosaics of a training batch's pictures -> the pooled tokens of each tile, a row of the tile's sample.

    CLIM (Wu et al. 2024, arXiv:2312.11376, section 3): side x side pictures, scaled down, stand side by side in one of
    the usual size. The picture's tower reads it, and RoIAlign pools each tile. A term between ``mosaic`` and ``text``
    then pairs a tile with its sample's caption, against the neighbours' in the same picture. Each picture is in one
    mosaic, in a random order, and those that fill none are left out. Evaluation has no rows.

    A tile sees its neighbours, so this is the one encoder whose rows depend on the batch.

    of: the tower of the pictures, values (m, C, H, W). side: tiles a side.
    """

    trains_only = True

    def __init__(self, of: str = "image", side: int = 2):
        super().__init__()
        if side < 2:
            raise ValueError(f"a mosaic has at least 2 tiles a side, not {side}")
        self.of, self.side = of, side

    def follow(self, given: Rows, lead: Lead, generator: torch.Generator | None) -> Rows:
        pictures, sample, k = lead.rows.values, lead.rows.sample, self.side
        if not isinstance(pictures, Tensor) or pictures.ndim != 4 or pictures.shape[2] % k or pictures.shape[3] % k:
            shape = tuple(pictures.shape) if isinstance(pictures, Tensor) else "a dict"
            raise ValueError(f"Mosaic joins pictures (m, C, H, W) whose sides {k} divides; {self.of!r} gives {shape}")
        real = (sample >= 0).nonzero().flatten() if self.training else sample[:0]
        at = torch.zeros(0, dtype=torch.int64, device=sample.device)
        values = {"box": pictures.new_zeros(0, 4, dtype=lead.maps.dtype), "map": lead.maps, "at": at}
        if not len(real) // k**2:
            return Rows(values, real[:0])
        place = "cpu" if generator is None else generator.device
        order = torch.randperm(len(real), generator=generator, device=place).to(real.device)
        chosen = real[order[: len(real) // k**2 * k**2]]
        at = torch.arange(len(chosen), device=sample.device)
        row, column = at % k**2 // k, at % k
        box = torch.stack([column, row, column + 1, row + 1], 1).to(lead.maps.dtype) / k
        by_sample = sample[chosen].argsort(stable=True)
        values = {"box": box[by_sample], "map": lead.read(join_tiles(pictures[chosen], k)), "at": at[by_sample] // k**2}
        return Rows(values, sample[chosen][by_sample])

    def forward(self, values: Any) -> Features:
        return Features(pool_boxes(values, self.of))


def join_tiles(pictures: Tensor, side: int) -> Tensor:
    """Return (n, C, H, W) mosaics of (n · side², C, H, W) pictures, row by row from the top left, of their type."""
    H, W = pictures.shape[2] // side, pictures.shape[3] // side
    small = F.interpolate(pictures.float(), (H, W), mode="area")
    small = small if pictures.is_floating_point() else small.round()
    grid = small.to(pictures.dtype).unflatten(0, (-1, side, side))  # (n, row, column, C, H, W)
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
