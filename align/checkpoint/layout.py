"""Memory order of an optimiser's state, which has to be that of its parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def lay_out(value: Any, parameter: Tensor) -> Any:
    """Return a state's tensor in the memory order of its parameter, where it has the shape of pictures' weights.

    Where one is NHWC and the other NCHW, as when a run goes on without ``compute.channels_last``, torch's fused AdamW
    on a CPU would pair other elements of the two, without an error.
    """
    if not isinstance(value, Tensor) or value.ndim != 4 or value.shape != parameter.shape:
        return value
    if value.stride() == parameter.stride() or type(value) is not Tensor:
        return value
    return torch.empty_strided(value.shape, parameter.stride(), dtype=value.dtype, device=value.device).copy_(value)
