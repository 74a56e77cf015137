"""Standard scores: the mean and deviation of each feature, taken off on the device."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

Numbers = Sequence[float] | float | None


def check_standard(name: str, value: Numbers, count: int) -> tuple[float, ...] | float | None:
    """Return one number, or ``count`` of them.

    Raises ValueError for another count, for a number that is not finite, and for a deviation that is not positive.
    """
    if value is None:
        return None
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(x) for x in value)
    if not isinstance(value, int | float) and len(numbers) != count:
        raise ValueError(f"{name} has {len(numbers)} numbers, a row has {count} features; give one number, or {count}")
    if not all(isfinite(x) and (x > 0 or name == "mean") for x in numbers):
        raise ValueError(f"{name}={value!r} must be {'finite' if name == 'mean' else 'positive'}")
    return numbers[0] if isinstance(value, int | float) else numbers


def standardize(values: Tensor, mean: Numbers, std: Numbers) -> Tensor:
    """Return (n, features, ...) less ``mean``, over ``std``, each feature by its own, in float32 at least."""
    if mean is None and std is None:
        return values
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    for numbers, change in ((mean, torch.sub), (std, torch.div)):
        if numbers is not None:
            each = torch.tensor(numbers, dtype=values.dtype, device=values.device)  # (features,) or ()
            values = change(values, each.reshape(-1, *[1] * (values.ndim - 2)))
    return values
