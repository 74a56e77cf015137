"""Weights for tests of published layouts: random, and such that the input matters to the output."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import nn

RUNNING_MEAN, RUNNING_VAR = "running_mean", "running_var"


@torch.no_grad()
def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill all parameters and running statistics, and return the module.

    Tensors of two or more dimensions: randn / sqrt(numel / shape[0]). One-dimensional weights: 1 + .1 randn. Biases and
    running means: .1 randn. Running variances: 1 + |.1 randn|. Other buffers, the constants of an architecture, and
    numbers without dimensions stay as the code made them.
    """
    generator = torch.Generator().manual_seed(seed)
    running = {n: b for n, b in module.named_buffers() if n.rpartition(".")[2] in (RUNNING_MEAN, RUNNING_VAR)}
    for name, x in [*module.named_parameters(), *running.items()]:
        x.copy_(draw(name, x, generator))
    return module


def draw(name: str, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return another fill of one tensor by its name and shape. A number without dimensions is moved by .1 randn."""
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x.dtype)
    last = name.rpartition(".")[2]
    if last == RUNNING_VAR:
        return 1 + (0.1 * noise).abs()
    if last == RUNNING_MEAN or "bias" in last:
        return 0.1 * noise
    if x.ndim >= 2:
        return noise / (x.numel() / x.shape[0]) ** 0.5
    return (x if x.ndim == 0 else 1) + 0.1 * noise


def fill_named(
    shapes: Mapping[str, Sequence[int]], seed: int = 0, dtypes: Mapping[str, torch.dtype] | None = None
) -> dict[str, torch.Tensor]:
    """Return a tensor for each name of a published layout, drawn as ``fill`` does, by the name and the seed alone.

    So a port and its reference implementation are filled alike, whatever the order of their parameters is. Constants
    of an architecture are left out of ``shapes`` and are added by whoever knows them.
    """
    filled = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        x = draw(name, torch.zeros(tuple(shape)), generator)
        filled[name] = x.to((dtypes or {}).get(name, torch.float32))
    return filled
