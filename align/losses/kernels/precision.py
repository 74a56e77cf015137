"""Full float32 products: TF32 and bfloat16 in the place of float32 are switched off for a while, then as they were."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack
from typing import Any, final

import torch

REDUCED = ("tf32", "bf16")
"""Settings of ``fp32_precision`` under which a float32 product keeps 10 or 7 bits of each factor."""

_lock = threading.Lock()
_inside = 0
_before: list[tuple[Any, str]] = []


def is_reduced() -> bool:
    """Return True where float32 products are of reduced precision here, or are kept full by a context that is open."""
    return _inside > 0 or any(part.fp32_precision in REDUCED for part in _parts())


@final
class Full(AbstractContextManager):
    """Context in which float32 matrix products are full, beside the contexts that it is given.

    The setting belongs to the process. The first thread to come in switches it and the last to leave restores it.
    """

    def __init__(self, *beside: AbstractContextManager):
        self.beside = beside
        self.stack = ExitStack()

    def __enter__(self) -> None:
        global _inside
        for context in self.beside:
            self.stack.enter_context(context)
        with _lock:
            if not _inside:
                _before[:] = [(part, found) for part in _parts() if (found := part.fp32_precision) in REDUCED]
                for part, _ in _before:
                    part.fp32_precision = "ieee"
            _inside += 1

    def __exit__(self, *error: Any) -> None:
        global _inside
        with _lock:
            _inside -= 1
            if not _inside:
                for part, found in _before:
                    part.fp32_precision = "none"  # an inherited setting comes back by itself, and stays inherited
                    if part.fp32_precision != found:
                        part.fp32_precision = found
                _before.clear()
        self.stack.close()


def _parts() -> tuple[Any, ...]:
    """Return the settings for products on a GPU and on a CPU."""
    return torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
