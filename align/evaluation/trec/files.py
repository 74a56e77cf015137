"""Runs and qrels as TREC has them: a line for each answer, a line for each judgement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Run = dict[str, dict[str, float]]
"""Query -> document -> score."""
Qrels = dict[str, dict[str, int]]
"""Query -> document -> relevance, from 1 where it is relevant."""

RUN = ("qid", "Q0", "docid", "rank", "score", "tag")
QRELS = ("qid", "0", "docid", "rel")


def read_run(path: str | Path) -> Run:
    """Return the lists of a run file, whose lines are ``qid Q0 docid rank score tag``.

    The second field, the rank and the tag are not read, as in trec_eval. Raises ValueError that names the line for
    another number of fields, a score that is no number, and a document that a query has twice.
    """
    found: Run = {}
    for place, (query, _, document, _, score, _) in _read_lines(path, RUN):
        try:
            value = float(score)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise ValueError(f"{place}: the score is {score!r}; it is a number, and a higher one is better")
        _put(found, query, document, value, place)
    return found


def read_qrels(path: str | Path) -> Qrels:
    """Return the judgements of a qrels file, whose lines are ``qid 0 docid rel``.

    Raises ValueError that names the line for another number of fields, a relevance that is no whole number, and a
    document that is judged twice for a query.
    """
    found: Qrels = {}
    for place, (query, _, document, relevance) in _read_lines(path, QRELS):
        try:
            value = int(relevance)
        except ValueError:
            raise ValueError(
                f"{place}: the relevance is {relevance!r}; it is a whole number, from 1 for a hit"
            ) from None
        _put(found, query, document, value, place)
    return found


def _read_lines(path: str | Path, fields: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield (FILE:LINE, its fields). Empty lines are passed over. Raises ValueError for a file without lines."""
    empty = True
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not (found := line.split()):
                    continue
                if len(found) != len(fields):
                    shown = line.strip() if len(line) < 80 else f"{line[:77].strip()}…"
                    wanted = f"{len(fields)} fields, {' '.join(fields)}"
                    raise ValueError(f"{path}:{number}: a line has {wanted}; got {len(found)}: {shown!r}")
                empty = False
                yield f"{path}:{number}", found
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8; its lines are {' '.join(fields)}") from None
    if empty:
        raise ValueError(f"{path} has no lines; they are {' '.join(fields)}")


def _put(found: dict[str, dict[str, Any]], query: str, document: str, value: float, place: str) -> None:
    listed = found.setdefault(query, {})
    if document in listed:
        raise ValueError(f"{place}: query {query!r} has document {document!r} already; each may come one time")
    listed[document] = value
