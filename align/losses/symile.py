"""Symile: all modalities contrasted at once, by the multilinear inner product of tuples of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.kernels.candidates import Alike
from align.losses.kernels.inputs import Scale, one_number, sets
from align.losses.kernels.missing import fill_missing, match_lengths
from align.losses.kernels.numerics import exact, nothing
from align.losses.kernels.pairing import by_anchor, weighted_mean
from align.losses.kernels.parts import Merge, check_part, detach_others
from align.losses.kernels.spread import spread
from align.losses.kernels.tiles import log_sums
from align.losses.kernels.tuples import Tuples, draw_rows, shuffle_rows
from align.losses.temperature import Temperature, start_product

Negatives = Literal["all", "shuffled", "partial"] | int


def symile(
    embeddings: Sequence[Tensor],
    scale: Scale,
    *,
    negatives: Negatives = "all",
    samples: Sequence[Tensor] | None = None,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    generator: torch.Generator | None = None,
    missing: Literal["complete", "learned"] = "complete",
    stand_ins: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
    tile: int | None = None,
) -> Tensor:
    """Return the contrastive loss of M >= 2 sets of rows at once (Saporta et al. 2024, arXiv 2411.01053, section 3.2);
    a 0-d tensor.

    The logit of a tuple is scale·Σ_d Π_m x_m[d]. A complete tuple has one row of every modality, all of one sample.
    With modality m as anchor, each row that has complete tuples costs their cross-entropy against its candidates,
    averaged over the tuples outside the log as in ``infonce``. The loss is the mean over anchors, then over modalities.
    For M = 2, "all" and "partial" are ``infonce``.

    embeddings: M tensors (n_m, D). Logits are float32 at least, autocast or not. Where all are bfloat16, they are
        multiplied as in ``infonce``. A product of several rows has more digits, and is multiplied in two or three parts
        that sum to it. float16 is so for two modalities only: its range is too small for the parts.
    scale: the multiplier, already exponentiated.
    negatives: an anchor's candidates beside its complete tuples.
        "all": all Π n of the other modalities' tuples, 8·Π_m n_m·D operations, in tiles. From five modalities on it is
            refused above 2^36 tuples.
        "shuffled": as the published code draws them, one randperm(n_m, generator) per (anchor, other) in index order,
            repeated up to the largest n_m. Column i is left out for anchor i. 6·M·n²·D operations.
        "partial": the tuples with exactly one row of another sample, and not the anchor's. One modality is swapped at a
            time. These are the hardest negatives, and the kind that retrieval meets. 8·M·n²·D operations for one row a
            sample.
        K, an int: K tuples drawn uniformly with replacement for each anchor modality, one randint per (anchor, other)
            in index order, shared by its anchors. A drawn tuple that is complete for an anchor is left out for it.
            6·M·n·K·D operations.
    samples: M tensors (n_m,) of ids. Without ids, row i belongs to sample i. Id -1 belongs to no sample.
    groups: M tensors (n_m,) of ids. A tuple whose rows are all of the anchor's sample or group (>= 0) is no negative.
    weights: M tensors (n_m,): how much each anchor counts in its modality's mean.
    generator: the source of draws for "shuffled" and K. None: torch's own.
    missing: the reading of a sample without some modality. "complete": it has no positive, and its rows serve as
        negatives.
        "learned": a learned row stands in for each modality that it lacks, if it has two at least.
    stand_ins: M tensors (D,), for "learned".
    part, merge, tile: as in ``align.losses.kernels.tiles.log_sums``. Extra memory grows with Σ n_m·D, not with the
        logits.

    Where nothing is complete, the loss is zero and so are all gradients. Raises ValueError for shapes and options that
    do not fit.
    """
    check_negatives(negatives)
    check_part(part, merge, tile)
    xs, ids, kinds, counts = sets(embeddings, samples, groups, weights)
    with exact(xs[0]):
        scale = one_number(scale, xs[0])
        if missing == "learned":
            if stand_ins is None or [x.shape for x in stand_ins] != [x.shape[1:] for x in xs]:
                raise ValueError(f"missing='learned' takes stand_ins: a tensor (D,) for each of {len(xs)} modalities")
            xs, ids, kinds, counts = fill_missing(xs, ids, kinds, counts, stand_ins)
        elif missing != "complete":
            raise ValueError(f"missing is 'complete' or 'learned'; got {missing!r}")
        if not all(len(x) for x in xs):
            return nothing(*xs, scale)
        tuples = Tuples(xs, scale, ids, kinds, part, merge, tile)
        if negatives == "all" or (negatives == "partial" and len(xs) == 2):
            alike = None if kinds is None else Alike(ids, kinds)
            sums, logits = log_sums(xs, scale, tuples.complete, forbid=alike, part=part, merge=merge, tile=tile)
        else:
            sums = tuples.partial() if negatives == "partial" else None
            logits = detach_others(tuples.complete_logits, part)
        losses = []
        for m, weight in enumerate(counts):
            count, mean = by_anchor(logits, tuples.complete[:, m], len(weight))
            if sums is not None:
                losses.append(weighted_mean(sums[m] - mean, weight, count > 0))
                continue
            if negatives == "shuffled":
                rows = shuffle_rows(m, [len(x) for x in xs], generator)
            else:
                rows = draw_rows(m, [len(x) for x in xs], int(negatives), generator)
            weight = torch.where(count > 0, weight, 0)
            total = weight.sum()
            weight = weight / torch.where(total == 0, 1, total)
            every = tuples.sum_drawn(m, rows, weight, published=negatives == "shuffled")
            losses.append(every - (weight * mean).sum())
        return torch.stack(losses).mean()


def check_negatives(negatives: Negatives) -> None:
    """Raise ValueError for an unknown kind of negatives."""
    if negatives not in ("all", "shuffled", "partial") and not (type(negatives) is int and negatives > 0):
        raise ValueError(f"negatives is 'all', 'shuffled', 'partial' or a number of tuples above 0; got {negatives!r}")


@final
class Symile(Temperature):
    """``symile`` with a learned temperature whose start and limit depend on D and M.

    The multilinear product of M random unit vectors has a standard deviation of D^(-(M-1)/2). CLIP's 14.3 would leave
    every softmax flat, and the loss at the log of its number of candidates for ever. For M vectors that agree and
    spread over all D coordinates the product is D^(1-M/2), larger by √D. The start is

        scale = max(10, √D) · D^(M/2 - 1)

    so tuples that agree begin at a logit of max(10, √D), and random ones at a standard deviation of max(10/√D, 1). For
    M = 2 it is about CLIP's, for M = 3 it is the 10·√D that is known to train, and it is never flat at any D. The limit
    is 100·D^(M/2 - 1), at which tuples that agree have CLIP's largest logit, 100.

    negatives: as in ``symile``. "partial" was the best of all on the sum of real digits, and none was better on XOR
        (configs/experiments).
    start_scale, max_scale, learn_scale: None takes the values above.
    missing: as in ``symile``. The stand-ins are parameters (M, D), made by ``start``. Each takes the mean length of its
        modality's rows.
    spread: weight of ``spread``, summed over the modalities. Where no pair of modalities says anything and only all
        together do (a sum, an exclusive or), Symile's gradient first finds that equal embeddings make its softmaxes
        flat, and it may stay there for a thousand steps. A weight of 1 keeps the rows apart until the signal is found
        (digits, task sum: 300 steps to 0.90, where without it the loss was flat after 1,000).
    """

    kind = "symile"
    takes_unpaired = True
    in_parts = True
    negative_kinds = ("all", "shuffled", "partial", "K")

    def __init__(
        self,
        negatives: Negatives = "partial",
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
        missing: Literal["complete", "learned"] = "complete",
        spread: float = 0.0,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        check_negatives(negatives)
        if missing not in ("complete", "learned"):
            raise ValueError(f"missing is 'complete' or 'learned'; got {missing!r}")
        self.negatives: Negatives = negatives
        self.missing: Literal["complete", "learned"] = missing
        self.stand_ins: nn.Parameter | None = None
        self.spread = spread
        self.started = start_scale is not None

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set the scale and its limit from D and M, and make the stand-ins."""
        self._set(*start_product(dim, modalities))
        self.started = True
        if self.missing == "learned":
            self.stand_ins = nn.Parameter(F.normalize(torch.randn(modalities, dim), dim=1).to(self.log_scale))

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of M sets of rows: embeddings (n_m, D), samples (n_m,), groups and weights likewise."""
        if not self.started:
            raise ValueError(
                "Symile's scale depends on D and M: call start(dim, modalities, batch) once before training"
            )
        stand_ins = None if self.stand_ins is None else match_lengths(self.stand_ins, embeddings)
        loss = symile(
            embeddings,
            self.scale,
            negatives=self.negatives,
            samples=samples,
            groups=groups,
            weights=weights,
            generator=generator,
            missing=self.missing,
            stand_ins=stand_ins,
            part=part,
            merge=merge,
        )
        return (
            loss + self.spread * torch.stack([spread(x, part, merge) for x in embeddings]).sum()
            if self.spread
            else loss
        )
