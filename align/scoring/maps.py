"""Maps of places against vectors: heat maps, regions pooled by masks, a normal prompt against an abnormal one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def heat(dense: Tensor, vectors: Tensor) -> Tensor:
    """Return the cosine of each place with each vector: (n, C, H, W) of maps (n, H, W, D), (n, C, P) of (n, P, D).

    vectors: (C, D), of phrases or class prompts.
    """
    places = dense.flatten(1, -2)  # (n, places, D)
    cosines = F.normalize(places, dim=-1, eps=1e-6) @ F.normalize(vectors.to(places), dim=-1, eps=1e-6).mT
    return cosines.mT.unflatten(2, dense.shape[1:-1])


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (n, C, h, w) at the size of a picture, (n, C, *size), bilinear between the cells' middles."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def pool_masks(dense: Tensor, masks: Tensor) -> Tensor:
    """Return (n, R, D), the unit vectors of R regions of each map, the mean of the places in their masks.

    Yu et al. 2023, FC-CLIP, arXiv:2308.02487, section 3.2 (mask pooling). A cell counts by the share of it that a mask
    covers. A mask without a place gives the vector zero.

    dense: (n, H, W, D), or (n, P, D) of clouds. masks: (n, R, h, w) of any size, or (n, R, P), bool or weights.

    Raises ValueError for masks of another number of rows or of points.
    """
    fits = masks.ndim == 4 if dense.ndim == 4 else masks.shape[2:] == dense.shape[1:2]
    if not fits or len(masks) != len(dense):
        shapes = f"maps {tuple(dense.shape)} and masks {tuple(masks.shape)}"
        raise ValueError(f"{shapes} do not fit; (n, H, W, D) takes (n, R, h, w), and (n, P, D) takes (n, R, P)")
    weights = masks.to(dense)
    if dense.ndim == 4:
        weights = F.interpolate(weights, dense.shape[1:3], mode="area").flatten(2)  # (n, R, H · W)
    return F.normalize(weights @ dense.flatten(1, -2), dim=-1, eps=1e-12)


def contrast(dense: Tensor, normal: Tensor, abnormal: Tensor, scale: float = 100.0) -> Tensor:
    """Return the share (n, H, W), or (n, P), that a place is abnormal: a softmax over a pair of prompts.

    Jeong et al. 2023, WinCLIP, arXiv:2303.14814, section 3.1, and Zhu et al. 2024, ALFA, arXiv:2404.09654. Each side is
    the mean of its prompts' vectors (k, D). scale: multiplier of the cosines, CLIP's by default.
    """
    pair = torch.stack([F.normalize(side, dim=-1, eps=1e-6).mean(0) for side in (normal, abnormal)])  # (2, D)
    return torch.softmax(scale * heat(dense, pair), dim=1)[:, 1]
