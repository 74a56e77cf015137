"""Late interaction (FILIP): rows are compared token by token, and each token finds its best counterpart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from align.losses.kernels.inputs import Scale, one_number, sides
from align.losses.kernels.numerics import exact, nothing, one_dtype
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.kernels.token_pairs import Comparison, check_chunk, check_tokens, compare
from align.losses.kernels.two_way import Positives, check_positives, match_rows, two_way
from align.losses.temperature import ClipTemperature


def late_interaction(
    tokens_a: Tensor,
    tokens_b: Tensor,
    scale: Scale,
    *,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    sample_a: Tensor | None = None,
    sample_b: Tensor | None = None,
    positives: Positives = "mean",
    group_a: Tensor | None = None,
    group_b: Tensor | None = None,
    weight_a: Tensor | None = None,
    weight_b: Tensor | None = None,
    chunk: int | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the contrastive loss of two sets of rows that are compared token by token (FILIP: Yao et al. 2021, arXiv
    2111.07783, equations 3 to 5); a 0-d tensor.

    For anchors a, s_ij = scale · mean_k max_l <a_ik, b_jl> over the real tokens k of row i and l of row j. For anchors
    b, the mean is over b's tokens and the maximum over a's. The loss is ``infonce``'s with these logits (equation 2
    there, without text prompts).

    tokens_a: (n_a, L_a, D), tokens_b: (n_b, L_b, D), unit vectors as a rule. Similarities are float32 at least.
    scale: the multiplier, already exponentiated.
    mask_a: (n_a, L_a), mask_b: (n_b, L_b) bool, true where a token is real. None: all are. A row whose every token is
        masked pairs with nothing: it is no anchor, no positive and no negative.
    sample_a, sample_b, positives, group_a, group_b, weight_a, weight_b: as in ``infonce``.
    chunk: how many pairs of rows are compared at once. None: as many as have 2^22 similarities, 16 MiB.
    part, merge: as in ``infonce``. A part compares its share of the rows of a with all rows of b.

    When to use it: where a caption's words belong to places of an image or moments of a sound, and the order of results
    may cost L_a·L_b products a pair. Pooled embeddings, which search and zero-shot read, learn from it only through the
    weights that they share with the tokens: put a term with ``InfoNCE`` beside it.

    It costs 8·n_a·n_b·L_a·L_b·D operations, forward and backward. Extra memory: a few tiles of chunk·L_a·L_b, some
    (n_a, n_b) matrices, and gradients as large as the tokens. It is never n_a·n_b·L_a·L_b, as the backward pass
    computes the similarities again. Of equal best tokens one gets the gradient. Where nothing pairs, the loss is zero
    and so are all gradients. Raises ValueError for shapes and options that do not fit, RuntimeError for a second
    derivative.
    """
    mask_a, mask_b = check_tokens(tokens_a, tokens_b, mask_a, mask_b)
    check_positives(positives)
    check_chunk(chunk)
    check_part(part, merge)
    with exact(tokens_a):
        a, b = one_dtype([tokens_a, tokens_b])
        scale = one_number(scale, a)
        matches = match_rows(
            a,
            b,
            mask_a.any(1),
            mask_b.any(1),
            sample_a=sample_a,
            sample_b=sample_b,
            group_a=group_a,
            group_b=group_b,
            weight_a=weight_a,
            weight_b=weight_b,
            part=part,
            merge=merge,
        )
        if not len(a) or not len(b):
            return nothing(a, b, scale)
        a, mask_a = take_share(a, part), take_share(mask_a, part)  # t of the n_a rows
        there, back = compare(a, b, mask_a, mask_b, _MaxMean(), chunk)  # (t, n_b) each
        return two_way(scale * there, scale * back.T, matches, positives)


@final
class _MaxMean(Comparison):
    """The mean over a's tokens of the best of b's, and the mean over b's of the best of a's."""

    outputs = 2

    def value(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> tuple[Tensor, None]:
        _hide(sim, mask_a, mask_b)
        best_b = sim.amax(3).masked_fill(~mask_a[:, :, None], 0)  # (p, L_a, q)
        best_a = sim.amax(1).masked_fill(~mask_b, 0)  # (p, q, L_b)
        there = best_b.sum(1) / mask_a.sum(1)[:, None]
        return torch.stack([there, best_a.sum(2) / mask_b.sum(1)]), None

    def slope(self, sim: Tensor, mask_a: Tensor, mask_b: Tensor, grad: Tensor, kept: Tensor | None) -> Tensor:
        _hide(sim, mask_a, mask_b)
        there = (grad[0] / mask_a.sum(1)[:, None])[:, None] * mask_a[:, :, None]  # (p, L_a, q)
        back = (grad[1] / mask_b.sum(1))[:, :, None] * mask_b  # (p, q, L_b)
        best_b, best_a = (sim.max(d, keepdim=True).indices for d in (3, 1))  # argmax is three times slower
        slope = sim.zero_()
        slope.scatter_(3, best_b, there[..., None])
        return slope.scatter_add_(1, best_a, back[:, None])


def _hide(sim: Tensor, mask_a: Tensor, mask_b: Tensor) -> None:
    """Take the similarities of tokens that are not real out of every maximum."""
    sim.add_(mask_a.to(sim).log()[:, :, None, None]).add_(mask_b.to(sim).log())  # 0 or -inf, faster than masked_fill_


@final
class LateInteraction(ClipTemperature):
    """``late_interaction`` with a learned temperature, which starts and ends as CLIP's (FILIP starts at 0.07 too).

    It reads the tokens of the towers, so their encoders must give some.

    objective:
      terms:
        pooled: {loss: align.losses.InfoNCE, between: [image, text]}
        tokens: {loss: align.losses.LateInteraction, between: [image, text], weight: 0.5}

    Args:
        positives: as in ``infonce``.
        start_scale: the scale at the start. None: 1/0.07.
        max_scale: the largest scale. None: 100.
        learn_scale: False keeps the scale at its start.
        chunk: pairs of rows compared at once, as in ``late_interaction``.
    """

    kind = "tokens"
    takes_unpaired = True
    in_parts = True
    needs_tokens = True

    def __init__(
        self,
        positives: Positives = "mean",
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
        chunk: int | None = None,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        check_positives(positives)
        check_chunk(chunk)
        self.positives: Positives = positives
        self.chunk = chunk

    def forward(
        self,
        embeddings: Sequence[Tensor],
        samples: Sequence[Tensor],
        *,
        tokens: Sequence[tuple[Tensor, Tensor]],
        groups: Sequence[Tensor] | None = None,
        weights: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        merge: Merge | None = None,
    ) -> Tensor:
        """Return the 0-d loss of two sets of rows: tokens (n_m, L_m, D) with masks (n_m, L_m).

        samples: (n_m,), groups and weights likewise. embeddings (n_m, D) get zero gradients.
        """
        (a, mask_a), (b, mask_b) = tokens
        loss = late_interaction(
            a,
            b,
            self.scale,
            mask_a=mask_a,
            mask_b=mask_b,
            positives=self.positives,
            chunk=self.chunk,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
        return loss + nothing(*embeddings)
