"""One encoder under torch.compile: a graph for any number of rows, and its names as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from align.values import Values

FEWEST = 2  # torch makes a graph of its own for 0 rows and for 1 row


def compile_encoder(encoder: nn.Module, backend: str) -> Callable[[], None]:
    """Compile an encoder in place and return the function that undoes it.

    Its module, its parameters and their names stay, as with ``nn.Module.compile``. The number of rows is marked as one
    that changes from call to call, so holes in a batch make no new graph. No row and one row run without the graph.
    """
    whole = torch.compile(encoder._call_impl, backend=backend)

    def call(values: Values, *args: Any, **kwargs: Any) -> Any:
        parts = list(values.values()) if isinstance(values, dict) else [values]
        if parts[0].shape[0] < FEWEST:
            return encoder._call_impl(values, *args, **kwargs)
        for x in parts:
            torch._dynamo.maybe_mark_dynamic(x, 0)  # pyright: ignore[reportAttributeAccessIssue]
        return whole(values, *args, **kwargs)

    before = encoder._compiled_call_impl
    encoder._compiled_call_impl = call

    def undo() -> None:
        encoder._compiled_call_impl = before

    return undo


def check_backend(backend: str) -> None:
    """Raise ValueError, with those that there are, for a backend that torch does not have."""
    import torch._dynamo as dynamo

    known = dynamo.list_backends(())
    if backend not in known:
        raise ValueError(f"compute.backend {backend!r} is no backend of torch.compile; it has {', '.join(known)}")
