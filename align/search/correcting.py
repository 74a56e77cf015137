"""A correction for hubs of an index's rows, made from a bank of queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from align.scoring import Correction, How, cosine_unit, score
from align.scoring.bank import Bank
from align.scoring.repairs import dual_bank, inverted_softmax, nnn, sinkhorn
from align.search.hits import read_rows
from align.search.index import Index
from align.search.linear import one_vector
from align.search.shift import Shift
from align.values import TermInfo

Method = Literal["nnn", "inverted_softmax", "dual_bank", "sinkhorn"]
"""Corrections that are one number a row. That of QB-Norm depends on the query's best candidate too."""

BLOCK = 1 << 14  # samples read at a time


class Made(NamedTuple):
    """A correction of an index's rows. facts: its method, its settings, and the sizes of the banks."""

    shift: Shift
    facts: dict[str, Any]


def make_shift(
    index: Index,
    query: str,
    of: str,
    bank: Tensor,
    gallery: Tensor,
    method: Method = "nnn",
    *,
    how: How,
    terms: Sequence[TermInfo] = (),
    unit: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Made:
    """Return the correction of the rows of ``of`` for queries of one modality.

    Rows are read in blocks. Sinkhorn balances all of them together, so it holds them in memory.

    Args:
        bank: (b, D) rows of the modality that asks. gallery: (g, D) rows of ``of`` beside them, for "dual_bank".
        how, terms: the rule of the search. unit: rows count with length 1, as in every search of a model whose
            embeddings have it.
        settings: of the method, see ``align.scoring.repairs``.

    Raises ValueError for an empty bank or index, and for a rule that is not linear, such as a volume.
    """
    if one_vector({query: bank[:1]}, how, of, terms) is None:
        raise ValueError(f"scores of {of} by {query} are volumes, which no correction is made for; search by cosine")
    for m, rows in ((query, bank), *(((of, gallery),) if method == "dual_bank" else ())):
        if not len(rows):
            raise ValueError(f"the shards of the bank have no row of {m}; a correction by {method} needs one")
    if of not in index.modalities:
        raise ValueError(f"the index has no {of!r}; it has {', '.join(index.modalities) or 'nothing'}")
    scale = cosine_unit(terms, (query,), of) if how == "objective" else 1.0
    asks = _bring(bank, unit)

    def by_rule(a: Tensor, b: Tensor) -> Tensor:
        return score({query: a}, b, how, of=of, terms=terms)

    samples, shifts, found = [], [], None
    for values, sample in _read(index, of, whole=method == "sinkhorn"):
        found = _make(method, Bank(asks, _bring(values, unit), by_rule, scale), gallery, settings or {})
        samples.append(sample)
        shifts.append(found.shift)
    if found is None:
        raise ValueError(f"the index has no row of {of}")
    facts = {
        "query": query,
        "of": of,
        "method": method,
        "how": how,
        **found.settings,
        "bank": len(bank),
        "rows": sum(map(len, samples)),
    }
    return Made(Shift(torch.cat(samples), torch.cat(shifts), method), facts)


def _read(index: Index, of: str, *, whole: bool) -> Iterator[tuple[Tensor, Tensor]]:
    numbers = index.numbers(of)
    for some in numbers.split(max(1, len(numbers)) if whole else BLOCK):
        values, sample = read_rows(index, of, some)
        if len(sample):
            yield values, sample


def _bring(rows: Tensor, unit: bool) -> Tensor:
    return F.normalize(rows.float(), dim=1) if unit else rows.float()


def _make(method: Method, bank: Bank, gallery: Tensor, settings: Mapping[str, Any]) -> Correction:
    match method:
        case "nnn":
            return nnn(bank, **settings)
        case "inverted_softmax":
            return inverted_softmax(bank, **settings)
        case "dual_bank":
            return dual_bank(bank, gallery, **settings)
        case "sinkhorn":
            return sinkhorn(bank, **settings)
