"""Sets of three rows, and the answers of a model to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Task = Literal["2afc", "odd"]
CHANCE: Mapping[Task, float] = {"2afc": 1 / 2, "odd": 1 / 3}


class Sets(NamedTuple):
    """Sets of three rows each, of one task.

    Two-alternative choice ("2afc"): the first row is the reference, and the answer the place (1 or 2) of the row that
    is more like it. Odd one out ("odd"): the answer is the place (0, 1 or 2) of the row that does not belong.

    rows: three tensors (n, D). answer: (n,) int64. sample: (n,), that of the first row.
    """

    task: Task
    rows: tuple[Tensor, Tensor, Tensor]
    answer: Tensor
    sample: Tensor


def judge(sets: Sets) -> Tensor:
    """Return (n,) bool, true where the cosines of the rows give the answer. A tie is wrong, and so is NaN.

    The choice is the alternative nearer to the reference. The odd row is the one that the nearest two of the three
    leave over (Hebart et al. 2020, doi:10.1038/s41562-020-00951-3). Cosines are computed in float64 and compared in
    float32, so that equal rows tie.
    """
    x, y, z = (F.normalize(row.double(), dim=1) for row in sets.rows)
    first, second, last = ((a * b).sum(dim=1).float() for a, b in ((x, y), (x, z), (y, z)))
    if sets.task == "2afc":
        return torch.where(sets.answer == 1, first > second, second > first)
    apart = torch.stack([last, second, first], dim=1)  # (n, 3), the cosine of the two that each place leaves over
    here = apart.gather(1, sets.answer[:, None])
    others = apart.scatter(1, sets.answer[:, None], -torch.inf)
    return (here > others).all(dim=1)
