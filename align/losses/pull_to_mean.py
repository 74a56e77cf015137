"""Pull to the mean: each modality's row towards the mean of its sample, a regulariser beside any loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import sets
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import by_anchor
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def pull_to_mean(
    embeddings: Sequence[Tensor],
    *,
    samples: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean of |x - μ_s|² over the rows x of M >= 2 modalities, with μ_s the mean of x's sample; 0-d.

    It is the minimality term of OVA-IB (Li et al. 2026, arXiv 2605.29900): a modality's row keeps nothing that the
    other modalities of its sample do not support. With a Gaussian of fixed width around each row and one around the
    mean of the others, the paper's bound is a multiple of this distance: x - (mean of the others) = M/(M-1)·(x - μ).
    The distance is defined here from the paper's abstract, as its equations were not at hand.

    μ_s is the mean over the modalities that sample s has of each one's mean row, so five captions do not outweigh one
    image. A sample of a single modality is left out. A modality's rows are averaged by their weights, and then the
    modalities that have any.

    When to use it: beside a contrastive term, where the modalities are to say the same. Alone it collapses. It needs no
    negatives and costs n·D.

    embeddings: M tensors (n_m, D). Distances are float32 at least, autocast or not.
    samples: M tensors (n_m,) of ids. Without ids, row i belongs to sample i. A row of id -1 is left out.
    weights: M tensors (n_m,): how much each row counts in its modality's mean. μ_s does not read them.
    part, merge: as in ``infonce``. A part takes its share of the rows.

    Where no sample has two modalities, it is zero and so are all gradients. Raises ValueError for shapes that do not
    fit.
    """
    check_part(part, merge)
    xs, ids, _, counts = sets(embeddings, samples, None, weights)
    with exact(xs[0]):
        xs = at_least_float32(xs)
        every = torch.cat([s[s >= 0] for s in ids]).unique()  # (U,)
        places = [torch.searchsorted(every, s).clamp(max=max(len(every) - 1, 0)) for s in ids]
        total, has = xs[0].new_zeros(len(every), xs[0].shape[1]), xs[0].new_zeros(len(every))
        for x, s, place in zip(xs, ids, places, strict=True):
            real = s >= 0
            of_sample = x.new_zeros(total.shape).index_add(0, place[real], x[real])
            number, _ = by_anchor(real[real].to(x), place[real], len(every))
            total = total + of_sample / number.clamp(min=1)[:, None]
            has = has + (number > 0)
        mean = total / has.clamp(min=1)[:, None]  # (U, D)
        costs = []
        for x, s, place, weight in zip(xs, ids, places, counts, strict=True):
            counted = (s >= 0) & (has[place] >= 2) if len(every) else s >= 0
            weight = torch.where(counted, weight, 0)
            share = weight / torch.where(weight.sum() == 0, 1, weight.sum())  # the same in every part
            here = take_share(counted, part)
            far = (take_share(x, part)[here] - mean[take_share(place, part)[here]]).square().sum(1)
            costs.append((sum_over_parts((take_share(share, part)[here] * far).sum(), merge), weight.sum() > 0))
        found = torch.stack([there for _, there in costs]).sum()
        return torch.stack([cost for cost, _ in costs]).sum() / found.clamp(min=1) + nothing(*xs)


@final
class PullToMean(Loss):
    """``pull_to_mean`` as a module. In a config::

        terms:
          pairs: {loss: align.losses.InfoNCE, between: [audio, image, text]}
          mean: {loss: align.losses.PullToMean, between: [audio, image, text], weight: 0.1}

    It has no temperature, and scoring does not read it. Groups are not read.
    """

    kind = "regulariser"
    takes_unpaired = True
    in_parts = True

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
        """Return the 0-d value of M sets of rows: embeddings (n_m, D), samples (n_m,) and weights likewise."""
        return pull_to_mean(embeddings, samples=samples, weights=weights, part=part, merge=merge)
