"""The parts of a loss, each in a thread: their ``merge`` joins what all of them bring, as ranks do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


def in_parts(loss: Callable[..., Tensor], inputs: list[Tensor], parts: int, **options: Any) -> list[Any]:
    """[(value, gradients)] of each part i of ``loss(*copies of inputs, part=(i, parts), merge=..., **options())``."""
    barrier, brought = threading.Barrier(parts, timeout=60), [torch.empty(0)] * parts

    def run(i: int) -> tuple[Tensor, list[Tensor]]:
        def merge(x: Tensor, how: str) -> Tensor:
            brought[i] = x.detach()
            barrier.wait()
            every = torch.stack(brought)
            barrier.wait()
            return {"sum": every.sum, "logsumexp": every.logsumexp, "max": every.amax}[how](0)

        copies = [x.detach().clone().requires_grad_() for x in inputs]
        value = loss(*copies, part=(i, parts), merge=merge, **{k: v() for k, v in options.items()})
        grads = torch.autograd.grad(value, copies)
        return value.detach(), list(grads)

    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(run, range(parts)))


def joined(results: list[Any]) -> tuple[Tensor, list[Tensor]]:
    """The value, which must be equal in all parts, and the sum of the parts' gradients."""
    values = [value for value, _ in results]
    assert all(torch.equal(value, values[0]) for value in values)
    return values[0], [torch.stack(grads).sum(0) for grads in zip(*(g for _, g in results), strict=True)]
