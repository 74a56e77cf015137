"""Shapes of published tensors, from which layouts read the sizes of a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def read_shape(tensors: Mapping[str, Tensor], name: str, dimensions: int, where: str) -> tuple[int, ...]:
    """Return the shape of a tensor. Raises ValueError where it is missing or has another number of dimensions."""
    if name not in tensors:
        raise ValueError(f"{where} does not fit the model: 1 missing: {name}")
    shape = tuple(tensors[name].shape)
    if len(shape) != dimensions:
        raise ValueError(f"{where} has 1 tensors of another shape: {name} {shape} instead of {dimensions} dimensions")
    return shape
