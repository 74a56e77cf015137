"""Optimal transport between unpooled rows: the tokens of one are carried onto the tokens of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from align.losses.kernels.entropic import Entropic, check_sinkhorn
from align.losses.kernels.inputs import Scale, one_number, sides
from align.losses.kernels.merging import sum_over_parts
from align.losses.kernels.numerics import at_least_float32, exact, nothing, one_dtype
from align.losses.kernels.pairing import weighted_mean
from align.losses.kernels.parts import Merge, check_part, take_share
from align.losses.kernels.token_pairs import check_chunk, check_tokens, compare
from align.losses.kernels.two_way import Matches, Positives, check_positives, match_rows, two_way
from align.losses.sinkhorn import sinkhorn
from align.losses.temperature import ClipTemperature

Negatives = Literal["all", "none"]


def transport(
    tokens_a: Tensor,
    tokens_b: Tensor,
    scale: Scale,
    *,
    mask_a: Tensor | None = None,
    mask_b: Tensor | None = None,
    negatives: Negatives = "all",
    epsilon: float = 0.1,
    steps: int = 20,
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
    """Return the loss of two sets of rows whose distance is the entropic transport cost of their tokens; a 0-d tensor.

    W_ij = ``sinkhorn`` of C_kl = 1 - <a_ik, b_jl> over the real tokens k of row i and l of row j (Cuturi 2013, arXiv
    1306.0895; between words and image regions: Chen et al. 2020, UNITER, arXiv 1909.11740, section 3.2, there without
    negatives).

    tokens_a: (n_a, L_a, D), tokens_b: (n_b, L_b, D), unit vectors as a rule. Costs are float32 at least.
    scale: the multiplier, already exponentiated. "none" does not use it.
    mask_a: (n_a, L_a), mask_b: (n_b, L_b) bool, true where a token is real. None: all are. A row whose every token is
        masked pairs with nothing.
    negatives: "all": ``infonce``'s loss with the logits -scale · W_ij. "none": the mean of W over the rows of one
        sample, for each anchor over its positives, then over the anchors, then over both directions. "none" only pulls
        together, and alone it makes all tokens equal. It is a regulariser beside a term that contrasts.
    epsilon, steps: as in ``sinkhorn``. C lies in [0, 2] for unit vectors.
    sample_a, sample_b, positives, group_a, group_b, weight_a, weight_b: as in ``infonce``. "none" does not use groups
        and ``positives``.
    chunk: how many pairs of rows "all" compares at once. None: as many as have 2^22 costs, 16 MiB.
    part, merge: as in ``infonce``. A pair's plan needs no other pair, so a part computes those of its rows of a.

    When to use it: as ``late_interaction``, where every token should find a place, not only the best ones. The plan
    shares each token's mass out, so one token cannot serve all others.

    "all" costs n_a·n_b·L_a·L_b·(2·steps exponentials + 8·D operations), dearer than ``late_interaction`` for its steps.
    Extra memory: a few tiles of chunk·L_a·L_b, one number a pair of rows and token of a (n_a·n_b·L_a), and gradients as
    large as the tokens. "none" costs time and memory by matching pairs, (L_a + L_b)·D + L_a·L_b each.

    Where nothing pairs, the loss is zero and so are all gradients. Raises ValueError for shapes and options that do not
    fit, RuntimeError for a second derivative of "all".
    """
    mask_a, mask_b = check_tokens(tokens_a, tokens_b, mask_a, mask_b)
    _check(negatives, epsilon, steps, positives, chunk)
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
        if negatives == "none":
            a, b = at_least_float32([a, b])
            return _pull_positives(a, b, mask_a, mask_b, matches, epsilon, steps) + nothing(scale)
        (cost,) = compare(a, b, mask_a, mask_b, Entropic(epsilon, steps), chunk)  # (t, n_b)
        logits = -scale * cost
        return two_way(logits, logits.T, matches, positives)


def _check(negatives: Negatives, epsilon: float, steps: int, positives: Positives, chunk: int | None) -> None:
    if negatives not in ("all", "none"):
        raise ValueError(f"negatives is 'all' or 'none'; got {negatives!r}")
    check_sinkhorn(epsilon, steps)
    check_positives(positives)
    check_chunk(chunk)


def _pull_positives(
    a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor, matches: Matches, epsilon: float, steps: int
) -> Tensor:
    """Return the mean transport cost of the pairs of one sample, over both directions; a 0-d tensor."""
    i, j = matches.positive.nonzero(as_tuple=True)  # (P,) the pairs of one sample
    cost, _ = sinkhorn(1 - a[i] @ b[j].mT, mask_a[i], mask_b[j], epsilon=epsilon, steps=steps)  # (P,)
    directions = []
    for rows, weight, count, anchors, pairs in (
        (i, matches.weight_a, matches.positive.sum(1), matches.merge, None),
        (j, matches.weight_b, matches.positive.sum(0), None, matches.merge),
    ):
        count = sum_over_parts(count, pairs)
        total = sum_over_parts(torch.zeros_like(weight).index_add(0, rows, cost), pairs)  # (n,)
        directions.append(weighted_mean(total / count.clamp(min=1), weight, count > 0, anchors))
    return (directions[0] + directions[1]) / 2


@final
class Transport(ClipTemperature):
    """``transport`` with a learned temperature, which starts and ends as CLIP's.

    It reads the tokens of the towers, so their encoders must give some.

    objective:
      terms:
        pooled: {loss: align.losses.InfoNCE, between: [image, text]}
        words:
          loss: {class_path: align.losses.Transport, init_args: {negatives: none, epsilon: 0.1}}
          between: [image, text]
          weight: 0.1

    Args:
        negatives: "all" contrasts. "none" only pulls the rows of a sample together, and leaves the temperature alone.
        epsilon: the entropy's weight. A token's cost is 1 - cosine.
        steps: Sinkhorn's updates.
        positives: as in ``infonce``.
        start_scale: the scale at the start. None: 1/0.07.
        max_scale: the largest scale. None: 100.
        learn_scale: False keeps the scale at its start.
        chunk: pairs of rows compared at once, as in ``transport``.
    """

    kind = "tokens"
    takes_unpaired = True
    in_parts = True
    needs_tokens = True
    negative_kinds = ("all", "none")

    def __init__(
        self,
        negatives: Negatives = "all",
        epsilon: float = 0.1,
        steps: int = 20,
        positives: Positives = "mean",
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
        chunk: int | None = None,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        _check(negatives, epsilon, steps, positives, chunk)
        self.negatives: Negatives = negatives
        self.epsilon, self.steps = epsilon, steps
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
        loss = transport(
            a,
            b,
            self.scale,
            mask_a=mask_a,
            mask_b=mask_b,
            negatives=self.negatives,
            epsilon=self.epsilon,
            steps=self.steps,
            positives=self.positives,
            chunk=self.chunk,
            part=part,
            merge=merge,
            **sides(samples, groups, weights),
        )
        return loss + nothing(*embeddings)
