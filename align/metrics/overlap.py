"""Overlap of answers and truths by place: intersection over union of each class, as segmentation measures it."""

from __future__ import annotations

import torch
from torch import Tensor


def class_overlaps(answer: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return (C, 2): of each class the places in the intersection of answer and truth, and in their union.

    answer, truth: classes of the same places, of any shape. A place whose truth is -1 does not count. An answer of -1
    is none of the classes.
    """
    counted = truth >= 0
    answer, truth = answer[counted], truth[counted]
    right = torch.bincount(truth[answer == truth], minlength=classes)
    said = torch.bincount(answer[answer >= 0], minlength=classes)
    return torch.stack([right, said + torch.bincount(truth, minlength=classes) - right], 1)


def mean_iou(overlaps: Tensor, weights: Tensor) -> Tensor:
    """Return the mean intersection over union (draws,) of pictures' overlaps (q, C, 2) under weights (draws, q).

    Places of all pictures are counted together (Everingham et al. 2010, the PASCAL VOC challenge, section 4.1.3). A
    class that is neither there nor answered does not count.
    """
    inside, union = (torch.einsum("dq,qc->dc", weights, overlaps[..., i].double()) for i in (0, 1))
    return (inside / union).nanmean(1)


def guessed_iou(places: Tensor) -> float:
    """Return the mean intersection over union that a blind guess among the C classes expects.

    places: (C,) of each class, all of which are guessed with 1 / C.
    """
    shares = places.double() / places.sum()
    guess = 1 / len(places)
    return float((shares * guess / (shares + guess - shares * guess)).mean())
