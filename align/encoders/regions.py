"""Regions: boxes of a picture, pooled from the tokens of the picture's tower, which encodes it one time."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from align.encoders.follower import Follower, Lead
from align.values import Features, Rows


@final
class Regions(Follower):
    """Boxes (n, 4) of ``align.preprocess.Boxes`` -> the mean of their picture's embedded tokens inside each.

    RoIAlign (He et al. 2017, arXiv:1703.06870, section 3) with one bin a box: the mean over points at most one token
    apart, each interpolated between the four nearest tokens. GRAIN (arXiv:2412.04429) and RegionCLIP align such regions
    with their descriptions, beside the picture with its caption.

    of: the tower of the pictures, whose encoder has a grid of tokens. A region belongs to the first picture of its
    sample. One without a picture has no row.
    """

    def __init__(self, of: str = "image"):
        super().__init__()
        self.of = of

    def follow(self, given: Rows, lead: Lead, generator: torch.Generator | None) -> Rows:
        if not isinstance(given.values, dict) or "box" not in given.values:
            raise ValueError("Regions reads the boxes of align.preprocess.Boxes")
        same = (given.sample[:, None] == lead.rows.sample) & (given.sample[:, None] >= 0)  # (n, m)
        there = same.any(1)
        at = same.to(torch.int8).argmax(1) if same.shape[1] else torch.zeros_like(given.sample)  # the first picture
        values = {"box": given.values["box"][there], "map": lead.maps, "at": at[there]}
        part = None if given.part is None else given.part[there]
        return Rows(values, given.sample[there], part=part)

    def forward(self, values: Any) -> Features:
        return Features(pool_boxes(values, self.of))


def pool_boxes(values: Any, of: str) -> Tensor:
    """Return (n, D): box (n, 4) in fractions, of the map ``at`` (n,) of map (m, D, H, W). Raises ValueError without."""
    if not isinstance(values, dict) or "map" not in values:
        raise ValueError(f"regions read the tokens of {of!r}: run the whole model, or embed {{'{of}': …, 'box': …}}")
    maps, box, at = values["map"], values["box"], values["at"]
    if not len(box):
        return maps.sum() * maps.new_zeros(0, maps.shape[1])  # connected: every gradient is zero, not None
    from torchvision.ops import roi_align

    H, W = maps.shape[2:]
    wide = maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps
    corners = box.to(wide.dtype) * torch.tensor([W, H, W, H], dtype=wide.dtype, device=wide.device)
    boxes = torch.cat([at[:, None].to(wide.dtype), corners], 1)
    return roi_align(wide, boxes, output_size=1, sampling_ratio=-1, aligned=True).flatten(1).to(maps.dtype)
