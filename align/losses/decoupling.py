"""Decoupling: a text is routed to the spaces whose modality it tells of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import check_embeddings, row_ids, row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.pairing import complete_tuples
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss

LEAST = 1e-6  # of a share of weight under the logarithm


def decouple(
    shares: Tensor,
    spaces: Tensor,
    *,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean of -log Σ_{k in the row's spaces} w_k over the pairs of rows of one sample; a 0-d tensor.

    It is the aim of OmniBind's decoupling of language representations (Wang et al. 2024, arXiv:2407.11895): a text that
    belongs to sounds gives its weight to the spaces of sounds. Here it is the cross-entropy of the router's weights.

    shares: (n_a, K) weights of the spaces, at least 0. A row is divided by its sum. A row of zeros is in no pair.
    spaces: (n_b, K), above 0 for the spaces that the sample belongs to. It gets no gradient. A row without any is in no
        pair.
    sample_a, sample_b: ids. Without ids, row i belongs to sample i. A row of id -1 is in no pair.
    weight_a, weight_b: (n,) weights. A pair counts (w_i + w_j) / 2.
    part, merge: as in ``infonce``. A part takes its share of the pairs.

    A share below 1e-6 counts as 1e-6. Where nothing pairs, it is zero and so are all gradients. Raises ValueError for
    shapes that do not fit.
    """
    check_embeddings([shares, spaces])
    check_part(part, merge)
    with exact(shares):
        shares, spaces = at_least_float32([shares, spaces])
        weight_a, weight_b = row_weights(weight_a, shares, "weight_a"), row_weights(weight_b, spaces, "weight_b")
        pairs = complete_tuples(
            [row_ids(sample_a, shares, "sample_a"), row_ids(sample_b, spaces, "sample_b")]
        )  # (P, 2)
        i, j = take_share(pairs, part).unbind(1)
        total, right = shares.sum(1), spaces.detach() > 0
        counted = (weight_a[i] + weight_b[j]) / 2 * (total[i].detach() > 0) * right[j].any(1)  # (P,)
        share = (shares[i] * right[j]).sum(1) / torch.where(total[i] > 0, total[i], 1)
        summed = sum_over_parts(counted.sum(), merge)
        value = sum_over_parts((counted * -share.clamp(min=LEAST).log()).sum(), merge)
        return value / torch.where(summed == 0, 1, summed) + nothing(shares, spaces)


@final
class Decouple(Loss):
    """``decouple`` as a module, between a modality whose head is a ``Router`` and the spaces of the sample. Its term,
    as in ``configs/ideas/joined.yaml``::

        terms:
          overall: {loss: align.losses.InfoNCE, between: [audio, image, text]}
          language: {loss: align.losses.Decouple, between: [text, space], weight: 0.1}

    It reads the router's weights from the first modality's tokens, whose mean over a row's tokens counts, and the
    spaces from the second's rows, as ``align.bind.join_spaces`` writes them. Scoring does not read it.
    """

    kind = "none"
    needs_tokens = True
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
        tokens: Sequence[tuple[Tensor, Tensor]],
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d value of two sets of rows: embeddings (n_m, D), tokens (n_m, L, D), samples and weights."""
        each, mask = tokens[0]
        each = each.clamp(min=0) * mask[..., None]  # (n, L, D); a token's length is not the weights'
        total = each.sum(-1, keepdim=True)
        shares = (each / torch.where(total > 0, total, 1)).sum(1)  # (n, D)
        weight_a, weight_b = weights or (None, None)
        value = decouple(
            shares,
            embeddings[1],
            sample_a=samples[0],
            sample_b=samples[1],
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
        return value + nothing(*embeddings, tokens[1][0])
