"""Values of a training step that the watchers look at, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

EVERY = 10
"""Steps between two glances. "Collapse within 50 steps" and the like are counts of glances."""


class Term(NamedTuple):
    """One contrast of a term in this step.

    loss: its value before weights. candidates: rows that an anchor is compared with, for each of its modalities. flat:
    True where the loss of equal logits is a logarithm of these numbers: a softmax over the candidates. scale, limit: of
    the term's temperature. learned: False where the scale stays as it is.
    """

    name: str
    loss: float
    candidates: tuple[int, ...]
    flat: bool
    scale: float
    limit: float
    learned: bool


class Glance(NamedTuple):
    """Values of a step. step: its number, from 1.

    rate: learning rate as a share of its peak. spread: by modality, 1 minus the squared length of the mean of the
    batch's unit rows: the mean of 1 - cosine over all pairs of them. rows: by modality, in the batch. terms: by name of
    term or contrast. gradients: by tower that trains, the norm before clipping. epochs: by source, its epoch. memory:
    by kind ("memory", "GPU memory"), bytes in use. full: True where every source has been read one time.
    """

    step: int
    rate: float = 1.0
    spread: Mapping[str, float] = {}
    rows: Mapping[str, int] = {}
    terms: Mapping[str, Term] = {}
    gradients: Mapping[str, float] = {}
    epochs: Mapping[str, int] = {}
    memory: Mapping[str, int] = {}
    full: bool = True
