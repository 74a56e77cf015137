"""Shares of the models of a soup by a rule."""

from __future__ import annotations

import torch


def gaussian_shares(n: int, mean: float, spread: float) -> list[float]:
    """Return n shares, which sum to 1, in proportion to exp(-(i - mean)² / (2 · spread²)) for i = 1, …, n.

    With the checkpoints of n epochs it is PromptSRC's average of prompts (Khattak et al. 2023, arXiv:2307.06948,
    equation 6): early prompts are not learned yet, late ones fit the few samples too well.
    """
    places = torch.arange(1, n + 1, dtype=torch.float64)
    return (-((places - mean) ** 2) / (2 * spread**2)).softmax(0).tolist()
