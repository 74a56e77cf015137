"""Settings of the parts that train: a config's ``tuning``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final


@final
@dataclass(frozen=True)
class Lora:
    """Low-rank adapters of the layers that a pattern names (Hu et al. 2021, arXiv 2106.09685).

    Args:
        rank: of the two matrices of an adapter.
        alpha: the adapter counts alpha / rank times. Default: `rank`.
        dropout: before the adapter, in training. A fused attention has its own.
        bias: biases of the encoder that train beside the adapters: none, all, or those of the layers with adapters.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    bias: Literal["none", "all", "lora_only"] = "none"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"the rank of tuning.lora is at least 1; got {self.rank}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"the alpha of tuning.lora is above 0; got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"the dropout of tuning.lora is at least 0 and below 1; got {self.dropout}")

    @property
    def scale(self) -> float:
        """Factor of the product of the two matrices."""
        return 1.0 if self.alpha is None else self.alpha / self.rank


@final
@dataclass(frozen=True)
class Tuning:
    """Parts of a model that train.

    A pattern names parameters or parts, as ``optim.groups`` does: ``model.towers.image.encoder.*`` or, shorter,
    ``image.encoder``.

    Args:
        freeze: patterns of parameters that do not train. A part whose parameters are all frozen runs in evaluation
            mode.
        freeze_first: tower -> the number of its encoder's first blocks that do not train. Parameters before the blocks
            do not train either.
        lora: pattern of layers -> their adapters. The first pattern that names a layer counts. The rest of an encoder
            with adapters does not train. A frozen layer has no adapter.
        layer_decay: tower -> d. Block i of L has d^(L - i) times the learning rate, and parameters before the blocks
            d^L times (Clark et al. 2020, arXiv 2003.10555, and Bao et al. 2021, arXiv 2106.08254).
    """

    freeze: list[str] = field(default_factory=list)
    freeze_first: dict[str, int] = field(default_factory=dict)
    lora: dict[str, Lora] = field(default_factory=dict)
    layer_decay: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tower, blocks in self.freeze_first.items():
            if blocks < 0:
                raise ValueError(f"tuning.freeze_first.{tower} is a number of blocks, at least 0; got {blocks}")
        for tower, decay in self.layer_decay.items():
            if not 0 < decay <= 1:
                raise ValueError(f"tuning.layer_decay.{tower} is above 0 and at most 1; got {decay}")
