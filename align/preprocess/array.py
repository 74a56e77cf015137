"""Arrays of one shape: features that another model has computed, rows of tables, descriptors."""

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
from align.preprocess.standard import check_standard, standardize

DTYPES = ("float16", "float32", "float64", "int64", "uint8")


class Array(Preprocess):
    """Numeric arrays of one fixed shape, from .npy bytes, a path, an ndarray or a tensor.

    shape: of one row. dtype: of the rows. Floats are cast to it, integers must fit it exactly.
    missing: let NaN through, for an encoder that reads it as a missing value. Infinity is refused all the same.
    mean, std: taken off the rows on the device, one number, or one for each entry of the row's first axis. None leaves
        the values as they stand.
    """

    suffixes: ClassVar[tuple[str, ...]] = ARRAY.suffixes
    medium = ARRAY

    def __init__(
        self,
        shape: Sequence[int],
        dtype: Literal["float16", "float32", "float64", "int64", "uint8"] = "float32",
        missing: bool = False,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
    ):
        check_choice("dtype", dtype, DTYPES)
        for n in shape:
            check_at_least("shape", n, 1)
        self.shape = tuple(shape)
        self.dtype, self.missing = dtype, missing
        features = self.shape[0] if self.shape else 1
        self.mean, self.std = check_standard("mean", mean, features), check_standard("std", std, features)
        if "float" not in dtype and (missing or mean is not None or std is not None):
            raise ValueError(f"missing, mean and std are for floats; dtype is {dtype!r}")

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
        if np.isinf(row).any() or (not self.missing and np.isnan(row).any()):
            given = "infinity" if self.missing else "NaN or infinity"
            raise bad("array/non-finite", source, f"{given}, or too large for {self.dtype}")
        return torch.from_numpy(row)

    def train(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x

    def eval(self, x: Tensor) -> Tensor:
        return x

    def collate(self, rows: Sequence[Tensor]) -> Tensor:
        return stack(rows, self.shape, getattr(torch, self.dtype))

    def device(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return (n, *shape) values less ``mean``, over ``std``."""
        return standardize(values, self.mean, self.std)
