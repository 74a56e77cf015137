"""Gated Symile: a product of rows, in which one that does not fit the candidate gives way to a neutral direction."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from align.losses.gate import AttentionGate, Gate
from align.losses.kernels.anchors import contrast_anchors
from align.losses.kernels.gating import gated_products
from align.losses.kernels.inputs import Scale, sets
from align.losses.kernels.missing import fill_missing
from align.losses.kernels.numerics import at_least_float32, exact, nothing
from align.losses.kernels.parts import Merge, check_part
from align.losses.temperature import Temperature, start_product


def gated_symile(
    embeddings: Sequence[Tensor],
    scale: Scale,
    gate: Gate,
    neutral: Sequence[Tensor],
    *,
    missing: Literal["complete", "neutral"] = "complete",
    samples: Sequence[Tensor] | None = None,
    groups: Sequence[Tensor] | None = None,
    weights: Sequence[Tensor] | None = None,
    part: tuple[int, int] = (0, 1),
    merge: Merge | None = None,
) -> Tensor:
    """Return the contrastive loss of M >= 2 sets of rows by their gated product; a 0-d tensor.

    It is Gated Symile (Rheude et al. 2026, arXiv 2604.05834). For a candidate c of one modality and the other
    modalities' rows x_o of a sample the logit is scale·Σ_d c[d]·Π_o y_o[d], with y_o at unit length along
    g·x_o + (1 - g)·ν_o: a row that says nothing of the candidate, or something wrong, gives way to a neutral direction.
    Every row of the modality is a candidate for the rows of each sample. The loss is the mean of two cross-entropies,
    each tuple against all candidates, as in the paper, and each candidate against all tuples, over every modality as
    candidate.

    When to use it: as ``symile``, where a modality is now and then wrong, weak or missing. Then one bad row spoils the
    whole product. For three modalities it costs four products (n×D)·(D×n) and about fifteen n×n matrices a modality.

    embeddings: M tensors (n_m, D), unit vectors. Logits are float32 at least, autocast or not.
    gate: see ``Gate``. neutral: M tensors (D,), read at unit length.
    missing: the reading of a sample without some modality. "complete": its rows are negatives only. "neutral": the
        neutral direction stands in for each modality that it lacks, if it has two at least. It is no candidate.
    scale, samples, groups, weights, part, merge: as in ``gram``.

    Where nothing is complete, the loss is zero and so are all gradients. Raises ValueError for shapes and options that
    do not fit.
    """
    check_part(part, merge)
    check_missing(missing)
    xs, ids, kinds, counts = sets(embeddings, samples, groups, weights)
    if [x.shape for x in neutral] != [x.shape[1:] for x in xs]:
        raise ValueError(
            f"neutral is a tensor (D,) for each of {len(xs)} modalities; got {len(neutral)} of other shapes"
        )
    with exact(xs[0]):
        xs = at_least_float32(xs)
        directions = [F.normalize(v.to(xs[0]), dim=0) for v in neutral]
        filled = (xs, ids, kinds, counts)
        if missing == "neutral":
            filled = fill_missing(xs, ids, kinds, counts, directions)
        losses = []
        for m in range(len(xs)):  # a stand-in is no candidate
            rows, owners, alike, weight = (
                [*of[:m], given[m], *of[m + 1 :]] if given is not None and of is not None else None
                for given, of in zip((xs, ids, kinds, counts), filled, strict=True)
            )
            losses.append(
                contrast_anchors(
                    functools.partial(_measure, gate=gate, neutral=directions, m=m),
                    rows or [],
                    scale,
                    anchor=m,
                    samples=owners,
                    groups=alike,
                    weights=weight,
                    part=part,
                    merge=merge,
                )
            )
        return torch.stack(losses).mean() + nothing(*neutral)


def _measure(candidates: Tensor, tuples: Sequence[Tensor], gate: Gate, neutral: Sequence[Tensor], m: int) -> Tensor:
    """Return minus the gated product of candidates (n, D) of modality m with tuples, M-1 tensors (C, D), as (n, C)."""
    others = [o for o in range(len(neutral)) if o != m]
    shares = [gate(candidates, x, m, o) for o, x in zip(others, tuples, strict=True)]
    return -gated_products(candidates, tuples, shares, [neutral[o] for o in others])


def check_missing(missing: str) -> None:
    """Raise ValueError for an unknown reading of a missing modality."""
    if missing not in ("complete", "neutral"):
        raise ValueError(f"missing is 'complete' or 'neutral'; got {missing!r}")


@final
class GatedSymile(Temperature):
    """``gated_symile`` with its gate, its neutral directions and Symile's learned temperature. In a config::

        terms:
          joint:
            loss: {class_path: align.losses.GatedSymile, init_args: {missing: neutral}}
            between: [audio, image, text]

    The gate is ``AttentionGate``. A neutral direction starts at 1/√D in every coordinate. A product with it is 1/√D
    times the product without the modality, so a sample with a bad row is read as a pair from the first step on. The
    paper's start at random.

    Scoring reads the plain product, as of ``Symile``: a model folder holds no gate. ``score`` gives the gated scores of
    a query. The weights are in the run's checkpoints with the objective.

    missing: as in ``gated_symile``.
    width: of the gate's queries and keys. None: D.
    start_scale, max_scale, learn_scale: None takes Symile's values.
    """

    kind = "gated"
    takes_unpaired = True
    in_parts = True

    def __init__(
        self,
        missing: Literal["complete", "neutral"] = "complete",
        width: int | None = None,
        start_scale: float | None = None,
        max_scale: float | None = None,
        learn_scale: bool = True,
    ):
        super().__init__(start_scale, max_scale, learn_scale)
        check_missing(missing)
        if width is not None and width < 1:
            raise ValueError(f"width is at least one coordinate; got {width}")
        self.missing: Literal["complete", "neutral"] = missing
        self.width = width
        self.gate: AttentionGate | None = None
        self.neutral: nn.Parameter | None = None

    def start(self, dim: int, modalities: int, batch: int) -> None:
        """Set Symile's scale and limit, and make the gate and the neutral directions."""
        self._set(*start_product(dim, modalities))
        self.gate = AttentionGate(dim, modalities, self.width or dim).to(self.log_scale)
        self.neutral = nn.Parameter(self.log_scale.new_full((modalities, dim), dim**-0.5))

    def score(self, candidates: Tensor, query: Sequence[Tensor | None], of: int) -> Tensor:
        """Return the logits (q, c) of candidates (c, D) of the modality at place ``of`` for queries of all the others.

        query: M-1 tensors (q, D) in the order of ``between``. None: the modality is missing, and its neutral direction
        stands in. Raises ValueError where a query has nothing, or not M-1 entries.
        """
        gate, neutral = self._parts()
        there = [x for x in query if x is not None]
        if not there or len(query) != len(neutral) - 1:
            raise ValueError(f"a query has rows, or None, of {len(neutral) - 1} modalities, and rows of one at least")
        with exact(candidates):
            candidates, _, *there = at_least_float32([candidates, self.log_scale, *there])
            directions = [F.normalize(v.to(candidates), dim=0) for v in neutral]
            rows, given = [], iter(there)
            for o, x in zip((o for o in range(len(neutral)) if o != of), query, strict=True):
                rows.append(directions[o].expand(len(there[0]), -1) if x is None else next(given))
            return -self.scale.to(candidates) * _measure(candidates, rows, gate, directions, of).T

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
        check_part(part, merge)
        gate, neutral = self._parts()
        loss = gated_symile(
            embeddings,
            self.scale,
            gate,
            [*neutral],
            missing=self.missing,
            samples=samples,
            groups=groups,
            weights=weights,
            part=part,
            merge=merge,
        )
        return loss + nothing(*self.parameters())

    def _parts(self) -> tuple[AttentionGate, nn.Parameter]:
        if self.gate is None or self.neutral is None:
            raise ValueError("GatedSymile's gate has D and M: call start(dim, modalities, batch) once before training")
        return self.gate, self.neutral
