"""The proof that a layout of published weights is read as its library reads it, for any weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from fill import draw
from torch import Tensor, nn

COSINE, VALUE = 1e-5, 1e-4


def agree(ours: Tensor, theirs: Tensor) -> float:
    """Assert that rows (n, D) agree, and that different rows differ by far more. Return the worst difference."""
    ours, theirs = ours.detach().float(), theirs.detach().float()
    assert ours.shape == theirs.shape
    worst = float((ours - theirs).abs().max())
    assert worst <= VALUE, worst
    a, b = F.normalize(ours.double(), dim=-1), F.normalize(theirs.double(), dim=-1)
    assert float((1 - (a * b).sum(-1)).max()) <= COSINE
    for i in range(len(theirs)):
        for j in range(i):
            assert float((theirs[i] - theirs[j]).abs().max()) >= 100 * VALUE, (i, j)
            assert 1 - float(b[i] @ b[j]) >= 100 * COSINE, (i, j)
    return worst


@torch.no_grad()
def unmoved(module: nn.Module, read: Callable[[], Tensor], except_for: Mapping[str, str] | None = None) -> list[str]:
    """Return the tensors whose other fill moves ``read()`` by less than ten times the tolerance.

    except_for: last parts of names -> the reason why they cannot move anything. They are expected not to.
    """
    generator, before, found = torch.Generator().manual_seed(99), read(), []
    for name, x in module.named_parameters():
        kept = x.clone()
        x.copy_(draw(name, x, generator))
        moved = float((read() - before).abs().max())
        x.copy_(kept)
        exempt = any(name.endswith(end) for end in except_for or {})
        if exempt != (moved < 10 * VALUE):
            found.append(f"{name} {moved:.1e}")
    return found
