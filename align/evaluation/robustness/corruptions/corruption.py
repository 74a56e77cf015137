"""The form of every corruption: a function of a decoded row, and its values at the five strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

STRENGTHS = (1, 2, 3, 4, 5)

Apply = Callable[[Any, int, torch.Generator], Any]
"""(a row as ``Preprocess.decode`` returns it, the strength from 1 to 5, a generator) -> the corrupted row.

The draws do not depend on the strength, so a row of strength 3 is that of strength 2 with more damage.
"""


@final
@dataclass(frozen=True)
class Corruption:
    """A way to damage a row. values: the parameter at each of the five strengths. meaning: the parameter, in words."""

    apply: Apply
    values: Sequence[Any]
    meaning: str


@final
@dataclass(frozen=True)
class Corrupted:
    """The change of ``Space.altered`` that applies a corruption at one strength."""

    apply: Apply
    strength: int

    def __call__(self, x: Any, generator: torch.Generator) -> Any:
        return self.apply(x, self.strength, generator)


def at(values: Sequence[Any], strength: int) -> Any:
    """Return the value at a strength. Raises ValueError for a strength that is not 1 to 5."""
    if strength not in STRENGTHS:
        raise ValueError(f"the strength of a corruption is 1, 2, 3, 4 or 5, not {strength!r}")
    return values[strength - 1]


def check_tensor(x: Any, axes: Sequence[int], wanted: str) -> Tensor:
    """Return the row. Raises ValueError unless it is a tensor with one of these numbers of axes."""
    if not isinstance(x, Tensor) or x.ndim not in axes:
        got = f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"robustness corrupts {wanted}, and this preprocess decodes to {got}: choose --corruptions")
    return x
