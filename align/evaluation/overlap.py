"""Samples of the test set among those that must be others: training samples and distractors."""

from __future__ import annotations

from align.evaluation.space import Space, Split
from align.values import Embeddings


def refuse_overlap(space: Space, split: Split, problem: str, remedy: str) -> None:
    """Raise ValueError where a split holds samples of the test set. problem, remedy: begin and end its message."""
    table, kind = space.table(split=split), "training samples" if split == "train" else split
    if same := find_same(space.table(), table):
        raise ValueError(
            f"{problem}: {len(same):,} of {table.size:,} {kind} have the key and the content of a test sample, "
            f"{same[0]!r} the first; give other shards with --{split}, {remedy}"
        )


def find_same(test: Embeddings, train: Embeddings) -> list[str]:
    """Return the keys of training samples that are test samples too: equal keys, and rows of equal content.

    Every modality of which both have rows counts. A row of unknown content equals no other.
    """
    there: dict[str, list[dict[str, frozenset[int]]]] = {}
    for key, contents in zip(test.ids, _list_contents(test), strict=True):
        there.setdefault(key, []).append(contents)
    return [
        key
        for key, contents in zip(train.ids, _list_contents(train), strict=True)
        if any(_are_same(contents, other) for other in there.get(key, ()))
    ]


def _list_contents(table: Embeddings) -> list[dict[str, frozenset[int]]]:
    """Return for each sample: modality -> the numbers of its rows' contents."""
    found: list[dict[str, set[int]]] = [{} for _ in range(table.size)]
    for m, rows in table.items():
        if rows.content is not None:
            for sample, content in zip(rows.sample.tolist(), rows.content.tolist(), strict=True):
                if sample >= 0:
                    found[sample].setdefault(m, set()).add(content)
    return [{m: frozenset(numbers) for m, numbers in one.items()} for one in found]


def _are_same(one: dict[str, frozenset[int]], other: dict[str, frozenset[int]]) -> bool:
    shared = one.keys() & other.keys()
    return bool(shared) and all(one[m] == other[m] and min(one[m]) >= 0 for m in shared)
