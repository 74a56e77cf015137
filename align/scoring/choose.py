"""The choice of a scoring rule where the user named none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from align.values import TermInfo

How = Literal["cosine", "mip", "objective"]


def choose(terms: Sequence[TermInfo], query: Iterable[str], of: str) -> How:
    """Return "objective" where a trained term scores candidates of ``of`` by the query's modalities, else "cosine".

    Zero-shot, retrieval, search, validation and ``shards filter`` all ask here, so a model has one order of candidates.
    "mip" is never chosen: the objective of a lone Symile term gives its order.
    """
    query = tuple(query)
    return "objective" if any(fits(term, query, of) for term in terms) else "cosine"


def fits(term: TermInfo, query: Iterable[str], of: str) -> bool:
    """Return True for a term that joins ``of`` with modalities of the query alone.

    A term over tokens never fits: its scale belongs to the score of tokens, and pooled embeddings do not give that.
    """
    return term.kind != "tokens" and of in term.modalities and set(term.modalities) <= {*query, of}


def list_unread(terms: Sequence[TermInfo], query: Iterable[str], of: str) -> list[str]:
    """Return the query's modalities that the objective does not read.

    No fitting term has them, or they are the candidates' own: in a term that modality stands for the candidate.
    """
    query = tuple(query)
    read = {m for term in terms if fits(term, query, of) for m in term.modalities} - {of}
    return [m for m in query if m not in read]


def cosine_unit(terms: Sequence[TermInfo], query: Iterable[str], of: str) -> float:
    """Return the change of a score by a change of 1 in the cosine: the sum of the fitting terms' scales, else 1."""
    query = tuple(query)
    return sum(term.scale for term in terms if fits(term, query, of)) or 1.0
