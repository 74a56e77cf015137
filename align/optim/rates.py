"""The learning rate of a batch of another size than the one that it is stated for."""

from __future__ import annotations

from typing import Literal

Rule = Literal["linear", "sqrt"]


def scale_rate(batch: int, stated: int, rule: Rule) -> float:
    """Return the factor of a rate that is stated for a batch of another size.

    linear: batch / stated, for gradient descent (Goyal et al. 2017, arXiv:1706.02677, section 2.1). sqrt: its root, for
    Adam and its kind (Malladi et al. 2022, arXiv:2205.10287, definition 4.2).
    """
    ratio = batch / stated
    return ratio if rule == "linear" else ratio**0.5
