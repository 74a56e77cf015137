"""The rule that scores a query of one or several modalities under mteb's search protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.scoring import How, choose, list_unread
from align.values import TermInfo


def pick_rule(terms: Sequence[TermInfo], query: Iterable[str], of: str) -> How:
    """Return the rule of ``align.scoring.choose`` where it reads all modalities of the query, else "cosine".

    No trained term reads a row of the candidates' modality: of a picture and a text that ask for a picture it reads the
    text alone. The sum of the cosines reads both.
    """
    query = tuple(query)
    how = choose(terms, query, of)
    return "cosine" if how == "objective" and list_unread(terms, query, of) else how


def fuse(rows: Mapping[str, Tensor]) -> Tensor:
    """Return one row (n, D) for n inputs of several modalities: the sum of their unit vectors, as a unit vector.

    The only modality of a mapping is returned as it is.
    """
    if len(rows) == 1:
        return next(iter(rows.values()))
    return F.normalize(torch.stack([F.normalize(x.float(), dim=-1) for x in rows.values()]).sum(0), dim=-1)
