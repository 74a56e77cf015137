"""Scores as tables on a terminal: a zero-shot block and retrieval matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_tables(scores: Mapping[str, float], protocol: Mapping[str, Any]) -> None:
    """The zero-shot block, and a retrieval matrix for each hit rule: rows ask, columns answer."""
    from align.commands.shown import console

    out = console()
    zero = zeroshot_lines(scores)
    if zero:
        out.print("zero-shot", style="italic")
        out.print(_table(["attribute", "modality", "accuracy", "accuracy@5", "chance"], zero, left=2))
    for n, prefix in enumerate(blocks(scores)):
        rule = "shared class" if prefix else protocol["hit rule"].split(":")[0]
        head, lines = matrix(scores, prefix)
        title = f"{prefix}retrieval: recall@1 / recall@10 by {rule}; rows ask, columns answer"
        if zero or n:
            out.print()
        out.print(title, style="italic", markup=False, highlight=False)
        out.print(_table(head, lines, left=1))


def print_notes(notes: Sequence[str]) -> None:
    """Print a line for each fact that changes how the numbers are read, without control characters from shards."""
    from align.commands.shown import console, plain

    out = console()
    if notes:
        out.print()
    for note in notes:
        out.print(plain(note))


def zeroshot_lines(scores: Mapping[str, float]) -> list[list[str]]:
    """A line for each attribute and modality."""
    lines = []
    for name in scores:
        parts = name.split("/")
        if parts[0] == "zeroshot" and parts[-1] == "accuracy":
            base = name.removesuffix("accuracy")
            values = [scores.get(base + key) for key in ("accuracy", "accuracy@5", "chance")]
            lines.append([parts[1], parts[2], *("" if value is None else f"{value:.3f}" for value in values)])
    return lines


def blocks(scores: Mapping[str, float]) -> list[str]:
    """The prefixes of the retrieval scores: "" for the hit rule asked for, "class/", "class/shape/", …"""
    found = [name.rpartition("/")[0].rpartition("/") for name in scores if name.endswith("/recall@1")]
    return list(dict.fromkeys(head + slash for head, slash, _ in found))


def matrix(scores: Mapping[str, float], prefix: str) -> tuple[list[str], list[list[str]]]:
    """(column heads, lines) of one retrieval matrix; a composed query is a line too."""
    pairs: dict[tuple[str, str], str] = {}
    for name in scores:
        head, _, key = name.rpartition("/")
        if key == "recall@1" and head.startswith(prefix) and "/" not in head[len(prefix) :]:
            query, _, of = head[len(prefix) :].rpartition("_to_")
            values = [scores[f"{head}/{k}"] for k in ("recall@1", "recall@10") if f"{head}/{k}" in scores]
            pairs[query, of] = " / ".join(f"{value:.3f}" for value in values)
    answers = sorted({of for _, of in pairs})
    asks = sorted({query for query, _ in pairs}, key=lambda query: (query.count("+"), query))
    return ["", *answers], [[query, *(pairs.get((query, of), "") for of in answers)] for query in asks]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], left: int) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i < left else "right")
    for line in lines:
        table.add_row(*line)
    return table
