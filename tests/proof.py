"""The proof that a layout of published weights is read as its library reads it, for any weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from fill import RUNNING_MEAN, RUNNING_VAR, draw
from torch import Tensor, nn

COSINE, VALUE = 1e-5, 1e-4


class Figures(NamedTuple):
    """How far rows are from the library's, and how far the library's rows of different inputs are apart at least."""

    value: float
    cosine: float
    apart: float  # the largest difference of any value, of the two inputs that are most alike
    apart_cosine: float

    def __str__(self) -> str:
        return (
            f"value {self.value:.1e}, cosine {self.cosine:.1e}, "
            f"different inputs {self.apart:.1e} and {self.apart_cosine:.1e} apart"
        )


def measure(ours: Tensor, theirs: Tensor) -> Figures:
    """Compare rows (n, D) with the library's."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    assert ours.shape == theirs.shape
    a, b = F.normalize(ours, dim=-1), F.normalize(theirs, dim=-1)
    pairs = [(i, j) for i in range(len(b)) for j in range(i)]
    return Figures(
        float((ours - theirs).abs().max()),
        float((1 - (a * b).sum(-1)).abs().max()),
        min(float((theirs[i] - theirs[j]).abs().max()) for i, j in pairs),
        min(1 - float(b[i] @ b[j]) for i, j in pairs),
    )


def agree(ours: Tensor, theirs: Tensor, scale: float = 1.0) -> Figures:
    """Assert that rows agree, and that rows of different inputs differ by a hundred times the tolerance or more.

    scale: of the tolerance, below 1 for a network whose random weights bring all inputs close together. A cosine
    changes with the square of a distance.
    """
    found = measure(ours, theirs)
    assert found.value <= VALUE * scale, found
    assert found.cosine <= COSINE * scale**2, found
    assert found.apart >= 100 * VALUE * scale, found
    assert found.apart_cosine >= 100 * COSINE * scale**2, found
    return found


@torch.no_grad()
def unmoved(
    module: nn.Module, read: Callable[[], Tensor], except_for: Mapping[str, str] | None = None, scale: float = 1.0
) -> list[str]:
    """Return the tensors whose other fill moves ``read()`` by less than ten times the tolerance.

    except_for: last parts of names -> the reason why they cannot move anything. They are expected not to.
    scale: of the tolerance, the one at which ``agree`` holds too.
    """
    generator, before, found = torch.Generator().manual_seed(99), read(), []
    running = [(n, b) for n, b in module.named_buffers() if n.endswith((RUNNING_MEAN, RUNNING_VAR))]
    for name, x in [*module.named_parameters(), *running]:
        kept = x.clone()
        x.copy_(draw(name, x, generator))
        moved = float((read() - before).abs().max())
        x.copy_(kept)
        exempt = any(name.endswith(end) for end in except_for or {})
        if exempt != (moved < 10 * VALUE * scale):
            found.append(f"{name} {moved:.1e}")
    return found
