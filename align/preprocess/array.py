"""Arrays as they stand: features that another model has computed, sensor windows, descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from align.media.array import ARRAY
from align.media.npy import read_array
from align.media.reading import bad
from align.preprocess.base import Preprocess, check_at_least, check_choice, stack

DTYPES = ("float16", "float32", "float64", "int64", "uint8")


class Array(Preprocess):
    """Numeric arrays of one fixed shape, from .npy bytes, a path, an ndarray or a tensor. Their values stay.

    shape: of one row. dtype: of the rows. Floats are cast to it, integers must fit it exactly.
    """

    suffixes: ClassVar[tuple[str, ...]] = ARRAY.suffixes
    medium = ARRAY

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Literal["float16", "float32", "float64", "int64", "uint8"] = "float32",
    ):
        check_choice("dtype", dtype, DTYPES)
        for n in shape:
            check_at_least("shape", n, 1)
        self.shape = tuple(shape)
        self.dtype = dtype

    def decode(self, source: Any) -> Tensor:
        """(*shape). Raises BadSample: array/empty, not-npy, dtype, too-large, truncated, shape, non-finite."""
        array = read_array(source, "array", limit=max(prod(self.shape), 1 << 20))
        if array.shape != self.shape:
            raise bad("array/shape", source, f"shape {array.shape}, expected {self.shape}")
        if array.dtype.kind not in "fiub":
            raise bad("array/dtype", source, f"{array.dtype} is not numeric")
        with np.errstate(over="ignore", invalid="ignore"):
            row = array.astype(self.dtype)
        if row.dtype.kind != "f" and not np.array_equal(row, array):
            raise bad("array/dtype", source, f"{array.dtype} values do not fit {self.dtype}")
        if not np.isfinite(row).all():
            raise bad("array/non-finite", source, f"NaN or infinity, or too large for {self.dtype}")
        return torch.from_numpy(row)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    def eval(self, x: Tensor) -> Tensor:
        return x

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, self.shape, getattr(torch, self.dtype))
