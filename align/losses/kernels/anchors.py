"""An anchor modality contrasted with tuples of all the others, for GRAM and TRIANGLE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from align.losses.kernels.inputs import Scale, one_number, sets
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import complete_tuples, same
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.kernels.two_way import Matches, two_way

Anchor = Literal["all"] | int

Measure = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""Distance of anchors (n, D) from C tuples, given as M-1 tensors (C, D) of rows, as (n, C)."""


def contrast_anchors(
    measure: Measure,
    embeddings: Sequence[Tensor],
    scale: Scale,
    *,
    anchor: Anchor = "all",
    samples: Sequence[Tensor] | None = None,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return ``infonce`` over the logits -scale·measure between anchors and tuples of the others; a 0-d tensor.

    It is the mean of both directions, and with anchor "all" the mean over every modality as anchor.

    A tuple takes one row of every other modality, all of one sample, and belongs to that sample. Every combination of a
    sample's rows is a tuple. An anchor's tuples and a tuple's anchors are those of its sample, several averaged outside
    the log. All others are its negatives. A row of id -1 is in no tuple: it is a negative where its modality is the
    anchor (for M = 2 always).

    groups: a tuple whose rows are all of the anchor's group (>= 0) is not its negative, nor the other way round.
    weights: an anchor counts by its weight, a tuple by the mean of its rows'.
    part, merge: as in ``infonce``. A part measures its share of each modality's anchors.

    Raises ValueError for shapes and options that do not fit.
    """
    xs, ids, kinds, counts = sets(embeddings, samples, groups, weights)
    check_anchor(anchor, len(xs))
    check_part(part, merge)
    xs = at_least_float32(xs)  # a volume is a difference of products, which needs all their digits
    with exact(xs[0]):
        M, scale = len(xs), one_number(scale, xs[0])
        losses = []
        for m in range(M) if anchor == "all" else [anchor]:
            others = [o for o in range(M) if o != m]
            # A single other modality keeps its rows of id -1: they have no tuple to complete.
            every = torch.arange(len(xs[others[0]]), device=scale.device)
            # (C,) rows of each other modality
            rows = complete_tuples([ids[o] for o in others]).unbind(1) if M > 2 else [every]
            if not len(xs[m]) or not len(rows[0]):
                continue
            tuples = [xs[o][row] for o, row in zip(others, rows, strict=True)]
            positive = same(take_share(ids[m], part), ids[others[0]][rows[0]])  # (t, C)
            alike = torch.zeros_like(positive)
            if kinds:
                of_group = [
                    same(take_share(kinds[m], part), kinds[o][row]) for o, row in zip(others, rows, strict=True)
                ]
                alike = torch.stack(of_group).all(0) & ~positive
            weight = torch.stack([counts[o][row] for o, row in zip(others, rows, strict=True)]).mean(0)
            logits = -scale * measure(take_share(xs[m], part), tuples)  # (t, C)
            matches = Matches(positive, alike, take_share(counts[m], part), weight, merge)
            losses.append(two_way(logits, logits.T, matches, "mean"))
        return torch.stack([*losses, nothing(*xs, scale)]).sum() / max(1, len(losses))


def check_anchor(anchor: Anchor, M: int | None = None) -> None:
    """Raise ValueError unless anchor is "all" or a place among M modalities."""
    if anchor != "all" and not (type(anchor) is int and anchor >= 0 and (M is None or anchor < M)):
        known = "" if M is None else f" of the {M}, 0 to {M - 1}"
        raise ValueError(f"anchor is 'all' or the place of one modality{known}; got {anchor!r}")


def root(squared: Tensor, error: Tensor | float) -> Tensor:
    """Return √x where x is above its rounding error, else zero with zero gradient.

    The slope of √ at 0 is infinite, that of a volume is not.
    """
    safe = squared > error
    return torch.where(safe, torch.where(safe, squared, 1).sqrt(), 0)
