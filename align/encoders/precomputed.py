"""Precomputed: features that were made elsewhere and stand in the shard or in a cache."""

from __future__ import annotations

from typing import Any, final

from align.encoders.base import Encoder
from align.values import Features, Values


@final
class Precomputed(Encoder):
    """Features as they stand, pooled (n, W), or tokens (n, L, W) that are pooled by their mean. No parameters.

    From a column with tokens it takes {"pooled": (n, W), "tokens": (n, L, W), "mask": (n, L)}. The tower casts stored
    float16 to the precision of the head.

    width: of a row. tokens: its default preprocess reads a row with tokens of any number, as columns with tokens have
    them. Otherwise it reads one row.

    Raises ValueError for values whose last dimension is not ``width``.
    """

    def __init__(self, width: int, tokens: bool = False):
        super().__init__()
        self.width, self.tokens = width, tokens

    def wants(self) -> dict[str, Any]:
        """Return the preprocess of rows of this width. Any other preprocess that gives such rows is accepted."""
        if self.tokens:
            return {"class_path": "align.preprocess.FeatureTokens", "init_args": {"width": self.width}}
        return {"class_path": "align.preprocess.Array", "init_args": {"shape": [self.width]}}

    def encode(self, values: Values) -> Features:
        if isinstance(values, dict):
            pooled = values.get("pooled")
            if set(values) != {"pooled", "tokens", "mask"} or pooled is None or pooled.shape[-1] != self.width:
                given = ", ".join(f"{name} {tuple(x.shape)}" for name, x in values.items())
                raise ValueError(f"Precomputed takes pooled (n, {self.width}), tokens and mask; got {given}")
            return Features(pooled, values["tokens"], values["mask"])
        if values.ndim not in (2, 3) or values.shape[-1] != self.width:
            wanted = f"(n, {self.width}) or (n, L, {self.width})"
            raise ValueError(f"Precomputed takes values of shape {wanted}, got {tuple(values.shape)}")
        return Features(values) if values.ndim == 2 else Features(values.mean(1), values)
