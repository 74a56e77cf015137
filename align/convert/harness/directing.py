"""Retrieval tasks of shards: one or several modalities ask for another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from align.convert.harness.content import Content
from align.convert.harness.tasks import ShardRetrieval, describe_task, make_dataset
from align.evaluation.composed import composed_queries
from align.values import TermInfo

KS = (1, 5, 10)
OURS = {f"hit_rate_at_{k}": f"recall@{k}" for k in KS} | {"mrr_at_1000": "mrr", "ndcg_at_10": "ndcg@10"}


def list_directions(content: Content, terms: Sequence[TermInfo]) -> list[tuple[tuple[str, ...], str]]:
    """Return (modalities that ask, the one that answers) of every direction that ``align evaluate`` measures."""
    present = sorted(content.rows)
    pairs = [((asks,), of) for asks, of in permutations(present, 2)]
    several = [(asks, of) for of in present for asks in composed_queries(terms, of) if set(asks) <= set(present)]
    return pairs + several


def retrieval_task(content: Content, asks: Sequence[str], of: str, title: str) -> ShardRetrieval | None:
    """Return the task of one direction, or None where no query has a right document.

    One modality asks with every row. Of several, the samples ask that have them all, with their first rows. A document
    is right where it is of the query's sample, or of its group.
    """
    direction = f"{'+'.join(asks)}_to_{of}"
    if len(asks) == 1:
        names = content.list_names(asks[0])
        rows = [(names[i], row.sample, (i,)) for i, row in enumerate(content.rows[asks[0]]) if row.sample >= 0]
    else:
        firsts = [content.first(m) for m in asks]
        common = sorted(set.intersection(*(set(first) for first in firsts)))
        rows = [(f"{s}:{content.keys[s]}", s, tuple(first[s] for first in firsts)) for s in common]
    right: dict[tuple[str, int], dict[str, int]] = {}
    documents = content.list_names(of)
    for name, row in zip(documents, content.rows[of], strict=True):
        if row.sample >= 0:
            right.setdefault(content.hit_key(row.sample), {})[name] = 1
    judged = {name: right[key] for name, s, _ in rows if (key := content.hit_key(s)) in right}
    rows = [row for row in rows if row[0] in judged]
    if not rows:
        return None
    queries = {"id": [name for name, _, _ in rows]} | {
        content.columns[m]: [content.rows[m][places[j]].data for _, _, places in rows] for j, m in enumerate(asks)
    }
    data = {
        "queries": make_dataset(queries),
        "corpus": make_dataset({"id": documents, content.columns[of]: [row.data for row in content.rows[of]]}),
        "relevant_docs": judged,
        "top_ranked": None,
    }
    columns = [content.columns[m] for m in asks], [content.columns[of]]
    metadata = describe_task(content, f"{title}-{direction}", "Any2AnyRetrieval", *columns, "ndcg_at_10")
    ours = {theirs: f"{direction}/{name}" for theirs, name in OURS.items()}
    return ShardRetrieval(metadata, data, ours, note_several(judged))


def note_several(judged: dict[str, dict[str, int]]) -> list[str]:
    """Return the line about queries that have several right documents, where there are any."""
    several = sum(len(found) > 1 for found in judged.values())
    if not several:
        return []
    return [
        f"{several:,} of {len(judged):,} queries have several right documents: mteb's recall@k is the share of them "
        "that is found, its hit_rate@k is align's recall@k"
    ]
