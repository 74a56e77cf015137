"""Encoders that a loss asks for, as ``MaskedTokens`` reads the tokens of ``align.encoders.Masked`` alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from align.losses.loss import Loss
from align.objective.total import Objective


def check_encoders(objective: Objective, towers: Mapping[str, nn.Module] | nn.ModuleDict) -> None:
    """Raise ValueError for a term whose loss needs an encoder that the tower of one of its modalities does not have.

    A modality without a tower is no matter of this check: the shards are looked at for it later.
    """
    for name, contrasts in objective.contrasts.items():
        needed = {part.needs_encoder for part in objective.losses[name].modules() if isinstance(part, Loss)} - {""}
        for modality in sorted({m for contrast in contrasts for m in contrast.modalities} & set(towers.keys())):
            there = {type(part).__name__ for part in towers[modality].modules()}
            if lacking := sorted(needed - there):
                raise ValueError(
                    f"term {name!r} reads the tokens of align.encoders.{lacking[0]}, and the tower of {modality!r} has "
                    f"none: put its encoder into one, or take {modality!r} out of the term"
                )
