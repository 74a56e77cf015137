"""Islands of float32: code that autocast and a default dtype of half precision leave alone."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

HALF = (torch.bfloat16, torch.float16)


@contextmanager
def default_float32() -> Iterator[None]:
    """Let new tensors be float32 inside the block, where their default is half precision.

    Lightning's bf16-true sets that default around a step. A window or a mask that is made there would lose digits.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_float32(call: Callable[P, T], kind: str) -> Callable[P, T]:
    """Return a function that runs without autocast, and whose new tensors are float32 where their default is half.

    kind: of the device, such as "cpu". Outside of half precision the function itself is returned.
    """
    cast, half = kind != "meta" and torch.is_autocast_enabled(kind), torch.get_default_dtype() in HALF
    if not cast and not half:
        return call

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with torch.autocast(kind, enabled=False):
            if not half:
                return call(*args, **kwargs)
            with default_float32():
                return call(*args, **kwargs)

    return run


def keep_default_float32(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function whose new tensors are float32 where their default is half. Autocast stays as it is."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.get_default_dtype() not in HALF:
            return call(*args, **kwargs)
        with default_float32():
            return call(*args, **kwargs)

    return run
