"""One encoder with its convolutions in the memory order NHWC, in which tensor cores and oneDNN read them fastest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def has_pictures(encoder: nn.Module) -> bool:
    """Return True for an encoder with a convolution over pictures, which has weights (out, in, h, w)."""
    return any(isinstance(module, nn.Conv2d) for module in encoder.modules())


def put_channels_last(encoder: nn.Module) -> Callable[[], None]:
    """Put an encoder's weights, and its pictures (n, C, H, W), into NHWC order.

    Returns the function that undoes it. Shapes, names and values stay the same. A checkpoint holds the weights in the
    order of their shape.
    """
    encoder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    handle = encoder.register_forward_pre_hook(lambda module, args: (_order(args[0]), *args[1:]))

    def undo() -> None:
        handle.remove()
        encoder.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]

    return undo


def _order(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _order(x) for name, x in values.items()}
    if isinstance(values, Tensor) and values.ndim == 4 and values.is_floating_point():
        return values.contiguous(memory_format=torch.channels_last)
    return values
