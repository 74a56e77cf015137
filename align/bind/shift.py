"""Centroid shift: rows of a modality minus their mean, or moved to the anchor's mean."""

from __future__ import annotations

from torch import Tensor

from align.bind.moments import Moments


def solve_shift(moments: Moments, modality: str, anchor: str, keep: bool) -> Tensor:
    """Return the centroid (W,) to subtract, which closes the gap between two modalities of one contrastive space (Liang
    et al. 2022, arXiv:2203.02053, section 4.2; Hong et al. 2026, arXiv:2602.03098).

    keep: the anchor's rows stay where they are, so the centroid is the difference of the means.
    Raises ValueError for columns of two widths.
    """
    w, d = moments.xy.shape
    if w != d:
        raise ValueError(
            f"shift moves rows within one space; {modality} has {w} numbers a row and {anchor} {d}; take ridge"
        )
    return moments.mean_x - moments.mean_y if keep else moments.mean_x
