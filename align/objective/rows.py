"""Rows of all ranks as the loss of a contrast takes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from align.losses.kernels.rule import Rule
from align.losses.loss import Given, Loss
from align.objective.everyone import Everyone
from align.objective.grades import Facts, apply_grades
from align.objective.labels import label_rows
from align.objective.parts import pair_parts
from align.objective.term import Contrast


def choose_rows(
    loss: Loss,
    contrast: Contrast,
    rows: Mapping[str, Everyone],
    *,
    partial: float,
    facts: Facts | None,
    labels: tuple[Tensor, Tensor] | None,
    generator: torch.Generator | None,
) -> Given:
    """Return the arguments of one call of a loss: the rows of the contrast's modalities, and the facts that it needs.

    partial: weight of samples that are graded so. facts, labels: of the samples of all ranks, see ``gather_facts`` and
    ``gather_labels``.
    """
    chosen = [rows[m] for m in contrast.modalities]
    if facts is not None:
        chosen = apply_grades(chosen, facts, contrast.modalities, partial)
    chosen = pair_parts(chosen)
    samples = [r.sample for r in chosen]
    groups = [r.group for r in chosen if r.group is not None]
    weights = [r.weight for r in chosen if r.weight is not None]
    given = Given([r.values for r in chosen], samples, groups or None, weights or None, generator)
    if loss.needs_tokens:
        given = given._replace(tokens=[_take_tokens(r) for r in chosen])
    if loss.needs_numbers:
        numbers = [r.numbers for r in chosen if r.numbers is not None]
        given = given._replace(numbers=numbers or None)
    if labels is not None:
        given = given._replace(labels=[label_rows(r.sample, *labels) for r in chosen])
    against = [r.against for r in chosen if r.against is not None]
    if against and loss.takes_rule:
        given = given._replace(rule=Rule(against=(against[0], against[1])))
    return given


def _take_tokens(rows: Everyone) -> tuple[Tensor, Tensor]:
    """Return tokens (n, L, D) and mask (n, L) of rows, with L = 0 where no loss reads any of this modality."""
    if rows.tokens is not None and rows.mask is not None:
        return rows.tokens, rows.mask
    return rows.values[:, None][:, :0], rows.values.new_zeros((len(rows.values), 0), dtype=torch.bool)
