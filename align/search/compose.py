"""A query of several parts: more of this, less of that, in one modality or in many."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def compose(query: Mapping[str, Tensor], minus: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The query with each part of `minus` subtracted from the same modality's part, and brought to length 1 again.

    query, minus: {modality: (q, D)}. Raises ValueError where `minus` has nothing to be subtracted from.
    """
    out = dict(query)
    for m, away in (minus or {}).items():
        if m not in out:
            raise ValueError(f"minus {m} needs a {m} query to subtract it from; the query has {', '.join(out)}")
        out[m] = F.normalize(F.normalize(out[m], dim=-1) - F.normalize(away, dim=-1), dim=-1)
    return out
