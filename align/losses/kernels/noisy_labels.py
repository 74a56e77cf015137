"""Noisy labels, judged by prototypes of the classes: the correction of each row's, and the choice of clean rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def correct_labels(
    x: Tensor, given: Tensor, vectors: Tensor, seen: Tensor, sharp: float, sure: float, bootstrap: float
) -> Tensor:
    """Return shares (n, C) of the classes of rows with noisy labels. A row whose label is judged wrong has zeros.

    With o_i = softmax_c(sharp·⟨x_i, v_c⟩) over the classes with a prototype, a row belongs to argmax o_i where its
    probability is at least ``sure``. Otherwise it keeps those of its labels whose probability is above 1 / C. Without
    any it is out of distribution. This is the correction of MoPro (Li et al. 2020, arXiv 2009.07995, equation 6), on
    which CAPro (Qin et al. 2023, arXiv 2310.09761, section 3.4) builds. The target is (1 - bootstrap)·e_i +
    bootstrap·Σ_j ω_ij o_j with e_i the corrected labels and ω_ij = softmax_j(sharp·⟨x_i, x_j⟩) over the other labelled
    rows: CAPro's collective bootstrapping, with the batch as its dictionary.

    x: (n, D). given: (n, C) bool. vectors: (C, D) unit prototypes. seen: (C,) bool, the classes that have one. A label
    without a prototype is kept.
    """
    labelled = given.any(1)
    kept, out = given, torch.zeros_like(x[:, :1]).expand(len(x), given.shape[1])
    if bool(seen.any()):
        lowest = torch.finfo(x.dtype).min
        out = (sharp * x @ vectors.T).masked_fill(~seen, lowest).softmax(1)  # (n, C)
        top, best = out.max(1)
        kept = given & ((out > 1 / seen.sum()) | ~seen)
        kept = torch.where((top >= sure)[:, None], F.one_hot(best, given.shape[1]).bool(), kept) & labelled[:, None]
    share = kept.to(x) / kept.sum(1, keepdim=True).clamp(min=1)
    if bootstrap and bool(seen.any()):
        others = labelled & ~torch.eye(len(x), dtype=torch.bool, device=x.device)  # (n, n)
        near = (sharp * x @ x.T).masked_fill(~others, torch.finfo(x.dtype).min).softmax(1)
        told = torch.where(others.any(1, keepdim=True), near @ out, out)
        share = (1 - bootstrap) * share + bootstrap * told
    return torch.where(kept.any(1, keepdim=True), share, 0)


def choose_clean(t: Tensor, given: Tensor, vectors: Tensor, share: float) -> Tensor:
    """Return (n, C) bool: of each class the texts nearest to its prototype, ``share`` of them and at least one.

    t: (n, D). given: (n, C) bool, their labels. vectors: (C, D), the classes' text prototypes.
    """
    scores = torch.where(given, t @ vectors.T, -torch.inf)
    place = scores.argsort(dim=0, descending=True, stable=True).argsort(dim=0, stable=True)  # (n, C)
    return given & (place < (share * given.sum(0)).ceil())
