"""Tokens that another model has computed: rows of different lengths, padded in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from align.media.array import ARRAY
from align.media.npy import read_array
from align.media.reading import bad
from align.preprocess.base import Preprocess, check_at_least
from align.values import Values


class FeatureTokens(Preprocess):
    """Features with tokens, (1 + L, width): the pooled row, then L tokens, from .npy bytes, a path or an array.

    width: of a row. length: the most tokens, to which a batch is padded. The padding that no row needs is cut off on
    the device.
    """

    suffixes = ARRAY.suffixes
    medium = ARRAY

    def __init__(self, width: int, length: int = 512):
        check_at_least("width", width, 1)
        check_at_least("length", length, 1)
        self.width, self.length = width, length

    def decode(self, source: Any) -> Tensor:
        """(1 + L, width) float32. Raises BadSample: array/shape, array/dtype, array/non-finite, or as ``Array``."""
        array = read_array(source, "array", limit=(1 + self.length) * self.width)
        if array.ndim != 2 or array.shape[1] != self.width or not 2 <= array.shape[0] <= 1 + self.length:
            expected = f"(1 + tokens, {self.width}) with 1 to {self.length} tokens"
            raise bad("array/shape", source, f"shape {array.shape}, expected {expected}")
        if array.dtype.kind != "f":
            raise bad("array/dtype", source, f"{array.dtype} is no floating point")
        if not np.isfinite(array).all():
            raise bad("array/non-finite", source, "NaN or infinity")
        return torch.from_numpy(array.astype(np.float32))

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    def eval(self, x: Tensor) -> Tensor:
        return x

    def collate(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return pooled (n, width), tokens (n, length, width), zero where mask (n, length) is False."""
        n = len(rows)
        pooled, tokens = torch.zeros(n, self.width), torch.zeros(n, self.length, self.width)
        mask = torch.zeros(n, self.length, dtype=torch.bool)
        for i, row in enumerate(rows):
            pooled[i] = row[0]
            tokens[i, : len(row) - 1], mask[i, : len(row) - 1] = row[1:], True
        return {"pooled": pooled, "tokens": tokens, "mask": mask}

    def device(self, values: Values, generator: torch.Generator | None = None) -> Values:
        """Return the values without the padding that no row needs. A batch keeps one token at least."""
        if not isinstance(values, dict) or not len(values["mask"]):
            return values
        longest = max(1, int(values["mask"].sum(1).max()))
        return {**values, "tokens": values["tokens"][:, :longest], "mask": values["mask"][:, :longest]}
