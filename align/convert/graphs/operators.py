"""Operators of torch in ONNX's, where torch's own exporter has none."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


@cache
def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return operator of torch -> the function that writes it in ONNX's."""
    from onnxscript import opset20

    op: Any = opset20

    def sort(self: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        """Write ``aten.sort.stable``. TopK keeps the order of equals: the lower index comes first."""
        size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
        values, places = op.TopK(op.Cast(self, to=1), size, axis=dim, largest=int(descending), sorted=1)
        return op.CastLike(values, self), places

    return {torch.ops.aten.sort.stable: sort}
