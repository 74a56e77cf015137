"""Published weights that no model can use: quantised numbers, NaN and infinity, shapes that a file cannot hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

QUANTISED = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
"""Types of weights that mean nothing without the scales of their library."""


def check_precision(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError for weights of 8 bits, but for uint8, of which old checkpoints have masks."""
    for name, x in tensors.items():
        if x.dtype in QUANTISED:
            kind = str(x.dtype).removeprefix("torch.")
            raise ValueError(f"{path} holds quantised weights ({name} is {kind}); give a model of full precision")


def check_stored(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError for tensors that are no numbers in the file, or more numbers than it has room for.

    A pickle may state any shape of one stored number, by strides of 0, and a model of that shape would fill the memory.
    """
    room = path.stat().st_size
    for name, x in tensors.items():
        if x.layout != torch.strided or x.is_meta or x.is_complex():
            kind = "complex" if x.is_complex() else "meta" if x.is_meta else str(x.layout).removeprefix("torch.")
            raise ValueError(f"{path} holds weights that are no plain numbers ({name} is {kind})")
        if not x.numel():
            raise ValueError(f"{path} holds weights of no numbers ({name} {tuple(x.shape)})")
        if x.nbytes > room:
            raise ValueError(f"{path} has {room} bytes, too few for {name} {tuple(x.shape)}")


def check_finite(module: nn.Module, where: str) -> None:
    """Raise ValueError, which names the first, where weights of a module are NaN or infinite."""
    odd = [name for name, x in module.state_dict().items() if x.is_floating_point() and not torch.isfinite(x).all()]
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise ValueError(f"{where} holds NaN or infinite weights, in {odd[0]}{more}")


def read_number(x: Tensor, name: str, where: object) -> float:
    """Return the number that a tensor of one value holds. Raises ValueError for another shape, NaN and infinity."""
    if x.numel() != 1:
        raise ValueError(f"{where} has 1 tensors of another shape: {name} {tuple(x.shape)} instead of ()")
    number = float(x.double().reshape(()))
    if not math.isfinite(number):
        raise ValueError(f"{where} holds NaN or infinite weights, in {name}")
    return number


def read_scale(x: Tensor, name: str, where: object) -> float:
    """Return the multiplier whose logarithm a tensor holds. Raises ValueError as ``read_number``."""
    number = read_number(x, name, where)
    if number > 80:
        raise ValueError(f"{where} has a {name} of {number:.4g}; it is the logarithm of a multiplier, at most 80")
    return math.exp(number)
