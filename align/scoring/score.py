"""The score of each candidate for each query."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from align.losses.gram import volumes
from align.losses.one_vs_all import span_lengths
from align.losses.triangle import areas
from align.scoring.choose import How, fits
from align.values import TermInfo


def score(
    query: Mapping[str, Tensor],
    candidates: Tensor,
    how: How = "cosine",
    *,
    of: str | None = None,
    terms: Sequence[TermInfo] = (),
) -> Tensor:
    """Return (q, c) scores of the candidates for each query, in float32 at least. Higher is better.

    query: modality -> (q, D), one row a query and modality. candidates: (c, D).
    how: "cosine" sums the cosines of a candidate with each of the query's rows. "mip" takes the multilinear inner
        product of the candidate with all of them, which is how Symile is read (Saporta et al. 2024, arXiv 2411.01053,
        section 3.4). "objective" sums the trained terms that contain ``of`` and whose other modalities the query has,
        each at its learned scale and bias: a softmax over candidates gives probabilities. A GRAM or TRIANGLE term is
        read as minus scale times the volume or area between the candidate and the query's rows, a term against a span
        as scale times the length of the candidate's projection on their span. Terms over tokens are left out, see
        ``fits``. ``choose`` names the rule that all of align takes.
    of: the candidates' modality. terms: the trained terms, ``JointModel.terms``. Only "objective" reads these two.

    Raises ValueError where shapes disagree, or where no term fits. The message names the terms.
    """
    if how not in ("cosine", "mip", "objective"):
        raise ValueError(f"how is 'cosine', 'mip' or 'objective'; got {how!r}")
    _check(query, candidates)
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in (candidates, *query.values())], torch.float32)
    candidates = candidates.to(dtype)
    query = {modality: rows.to(dtype) for modality, rows in query.items()}
    with torch.autocast(candidates.device.type, enabled=False):
        if how == "cosine":
            summed = torch.stack([F.normalize(rows, dim=-1) for rows in query.values()]).sum(0)  # (q, D)
            return summed @ F.normalize(candidates, dim=-1).T
        if how == "mip":
            return _product(query, list(query)) @ candidates.T
        return torch.stack([_term(query, candidates, of, term) for term in _fitting(query, of, terms)]).sum(0)


def _term(query: Mapping[str, Tensor], candidates: Tensor, of: str | None, term: TermInfo) -> Tensor:
    others = [m for m in term.modalities if m != of]
    if term.kind == "span":
        return term.scale * span_lengths(candidates, [query[m] for m in others]).T + term.bias
    if term.kind in ("volume", "area"):
        measure = volumes if term.kind == "volume" else areas
        return -term.scale * measure(candidates, [query[m] for m in others]).T + term.bias
    return term.scale * (_product(query, others) @ candidates.T) + term.bias


def _product(query: Mapping[str, Tensor], modalities: Sequence[str]) -> Tensor:
    return functools.reduce(torch.mul, [query[m] for m in modalities])  # (q, D)


def _fitting(query: Mapping[str, Tensor], of: str | None, terms: Sequence[TermInfo]) -> list[TermInfo]:
    if of is None:
        raise ValueError("how='objective' needs of=, the candidates' modality")
    fitting = [t for t in terms if fits(t, query, of)]
    if not fitting:
        trained = "; ".join(" with ".join(t.modalities) for t in terms if t.kind != "tokens") or "none"
        raise ValueError(f"no trained term scores {of} by {' and '.join(query)} alone; the terms are: {trained}")
    return fitting


def _check(query: Mapping[str, Tensor], candidates: Tensor) -> None:
    shapes = {modality: tuple(rows.shape) for modality, rows in query.items()}
    if not query:
        raise ValueError("a query has at least one modality; got none")
    if any(x.ndim != 2 or x.shape[1] != candidates.shape[-1] for x in (candidates, *query.values())):
        raise ValueError(f"queries are (q, D) and candidates (c, D); got {shapes} and {tuple(candidates.shape)}")
    if len({len(rows) for rows in query.values()}) > 1:
        raise ValueError(f"all modalities of a query have one row a query; got {shapes}")
