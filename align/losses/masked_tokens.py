"""MaskedTokens: a student's predictions of masked tokens, against a teacher's tokens of the whole row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.kernels.inputs import row_weights
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.loss import Loss


def masked_tokens(
    tokens: Tensor,
    mask: Tensor,
    *,
    weight: Tensor | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the mean over masked places of 1 - cos(p, t): the student's prediction p, the teacher's token t; 0-d.

    It is the masked image modelling of iBOT (Zhou et al. 2022, arXiv:2111.07832, equation 3) and TIPS (Maninis et al.
    2024, arXiv:2410.16512, section 3.3), with a regression to the teacher's token, as in BYOL (arXiv:2006.07733,
    equation 2), in place of their cross-entropy over prototypes. No gradient goes into the teacher's tokens. Rows are
    averaged, and within a row its masked places. A row without any is left out.

    tokens: (n, 2 L, D), a row's L predictions and then its L targets, as ``align.encoders.Masked`` gives them. mask:
    (n, 2 L) bool, true at the masked places, the same in both halves. weight: (n,) how much each row counts.
    part, merge: as in ``infonce``. A part takes its share of the rows.

    Without a masked place it is zero and so are all gradients. Raises ValueError for an odd number of tokens.
    """
    check_part(part, merge)
    L, odd = divmod(tokens.shape[1], 2)
    if odd:
        raise ValueError(f"masked tokens come in pairs, as align.encoders.Masked gives them; got {tokens.shape[1]}")
    with exact(tokens):
        (x,) = at_least_float32([tokens])
        hidden = mask[:, :L]
        counted = torch.where(hidden.any(1), row_weights(weight, x, "weight"), 0)
        share = counted / torch.where(counted.sum() == 0, 1, counted.sum())  # the same in every part
        here = [take_share(each, part) for each in (x, hidden, share)]
        apart = 1 - F.cosine_similarity(here[0][:, :L], here[0][:, L:].detach(), dim=2, eps=1e-6)  # (t, L)
        rows = (apart * here[1]).sum(1) / here[1].sum(1).clamp(min=1)
        return sum_over_parts((here[2] * rows).sum(), merge) + nothing(x)


@final
class MaskedTokens(Loss):
    """``masked_tokens`` as a module, beside a contrastive loss. The tower's encoder is an ``align.encoders.Masked``::

        terms:
          clip: {loss: align.losses.InfoNCE, between: [image, text]}
          masked: {loss: align.losses.MaskedTokens, between: [image], weight: 0.5}

    Tokens are compared behind the tower's head, in the joint space. It has no temperature, and scoring does not read
    it. In evaluation it is zero, as nothing is masked there. A tower that is frozen masks nothing either: leave the
    term out for it.
    """

    kind = "rows"
    needs_tokens = True
    needs_encoder = "Masked"
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
        tokens: Sequence[tuple[Tensor, Tensor]] | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of one set of rows: tokens (n, 2 L, D) and mask (n, 2 L), weights (n,)."""
        assert tokens is not None
        (x, mask), weight = tokens[0], None if weights is None else weights[0]
        if not self.training:
            return nothing(*embeddings, x)
        return masked_tokens(x, mask, weight=weight, part=part, merge=merge) + nothing(*embeddings)
