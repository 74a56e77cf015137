"""Settings of the parts that train: a config's ``tuning``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True)
class Lora:
    """Low-rank adapters of the layers that a pattern names (Hu et al. 2021, arXiv 2106.09685).

    Args:
        rank: of the two matrices of an adapter.
        alpha: the adapter counts alpha / rank times. Default: `rank`.
        dropout: before the adapter, in training.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0


@final
@dataclass(frozen=True)
class Tuning:
    """Parts of a model that train.

    Args:
        freeze: patterns of parameters that do not train.
        lora: pattern of layers -> their adapters.
    """

    freeze: list[str] = field(default_factory=list)
    lora: dict[str, Lora] = field(default_factory=dict)
